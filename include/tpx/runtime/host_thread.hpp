// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/patience.hpp>
#include <tpx/runtime/signature.hpp>
#include <tpx/space.hpp>

#include <nv/target>

#include <cstdlib>

namespace tpx {

/// How one rank waits for others in the operations of a communicator on the CPU: with patience, and
/// with an eye on ranks whose calls differ from its own.
class host_waiter {
 public:
  /// `calls`: the ledger of the communicator.
  host_waiter(member const& me, ledger& calls)
      : me_{&me},
        calls_{&calls},
        patience_{me, calls.rank[me.seat[me.rank]].waiting_on, 100},
        epoch_{me.generation << 40} {}  // a new generation's numbers lie above all older ones

  /// Starts an operation: throws if the group is aborted, then tells the others what is called.
  void begin(call_signature call) {
    me_->check();
    ++epoch_;
    signature_ = call.pack();
    patience_.restart();
    failed_ = false;
    auto& mine = entry_of(me_->rank);
    auto const place = epoch_ % ledger::depth;
    word(mine.epoch[place]).store(0, std::memory_order_relaxed);
    word(mine.signature[place]).store(signature_, std::memory_order_release);
    word(mine.epoch[place]).store(epoch_, std::memory_order_release);
    word(mine.latest).store(epoch_, std::memory_order_release);
  }

  /// Ends an operation: throws what made a wait in it fail.
  void end() const {
    if (!failed_) { return; }
    me_->check();
    throw error{errc::rank_failed, "the group was ended without a report", {.rank = me_->rank}};
  }

  /// Number of the operation, from 1, as people count them; `epoch()` never repeats.
  [[nodiscard]] static std::uint64_t ordinal(std::uint64_t epoch) {
    return epoch & ((std::uint64_t{1} << 40) - 1);
  }
  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  [[nodiscard]] std::uint64_t signature() const { return signature_; }
  [[nodiscard]] member const& me() const { return *me_; }

  /// See thread_group. Cost: nothing but a few instructions until the spin budget is used up.
  [[nodiscard]] bool pause(unsigned polls, std::uint64_t& flag, goal wanted, int peer) {
    if (failed_) { return false; }
    if (patience_.brief(polls)) { return true; }
    if (!look(flag, wanted, peer)) { return false; }
    patience_.sleep(flag, wanted, peer);
    return true;
  }

  void ring(int peer) const { detail::wake(me_->control->bells[me_->seat[peer]].asleep); }

  /// Rank `peer` sent data of another call than this one.
  void mismatch(int peer, std::uint64_t theirs) {
    fail(errc::mismatch, blame_mismatch(peer, theirs), differs(peer, theirs));
  }

  /// Ends the group with a report about this operation.
  void fail(errc code, int peer, std::string const& message) {
    failed_ = true;
    me_->raise(code, peer, message, to_string(call_signature::unpack(signature_)), ordinal(epoch_));
  }

 private:
  /// Whether to wait on. If not, the group is aborted.
  bool look(std::uint64_t& flag, goal wanted, int peer) {
    using outcome = detail::patience::outcome;
    auto const latest = word(entry_of(peer).latest).load(std::memory_order_acquire);
    auto const seen = patience_.look(flag, wanted, peer);
    if (seen == outcome::reached) { return true; }
    if (seen == outcome::ended) {
      failed_ = true;
    } else if (auto const theirs = recorded(peer); theirs != 0 && theirs != signature_) {
      mismatch(peer, theirs);
    } else if (latest > epoch_) {
      fail(errc::mismatch, peer,
           "rank " + std::to_string(peer) + " went on to its operation #" +
             std::to_string(ordinal(latest)) + " without taking part in this one");
    } else if (seen == outcome::left) {
      fail(errc::left, peer,
           "rank " + std::to_string(peer) + " returned after " + std::to_string(ordinal(latest)) +
             " operations and is waited for");
    } else if (seen == outcome::late) {
      time_out(peer);
    }
    return !failed_;
  }

  /// By starting rank: one that the group began anew without may still write its own.
  [[nodiscard]] ledger::entry& entry_of(int r) const { return calls_->rank[me_->seat[r]]; }

  /// What rank r says it called as its operation of our number; 0 if it has not, or no longer says.
  [[nodiscard]] std::uint64_t recorded(int r) const {
    auto& entry = entry_of(r);
    auto const place = epoch_ % ledger::depth;
    if (word(entry.epoch[place]).load(std::memory_order_acquire) != epoch_) { return 0; }
    auto const said = word(entry.signature[place]).load(std::memory_order_acquire);
    bool const still = word(entry.epoch[place]).load(std::memory_order_acquire) == epoch_;
    return still ? said : 0;
  }

  /// Of two ranks that differ, the one that fewer ranks agree with; the peer on a draw. Hears the
  /// other ranks first, which may not have called yet, for up to half a second.
  [[nodiscard]] int blame_mismatch(int peer, std::uint64_t theirs) const {
    auto const patience = std::min(me_->deadline, std::chrono::nanoseconds{500'000'000});
    auto const until = detail::now_ns() + static_cast<std::uint64_t>(patience.count());
    for (;;) {
      int with_me = 0;
      int with_peer = 0;
      int silent = 0;
      for (int r = 0; r < me_->size; ++r) {
        auto const said = recorded(r);
        with_me += static_cast<int>(said == signature_);
        with_peer += static_cast<int>(said == theirs);
        silent += static_cast<int>(said == 0);
      }
      bool const decided = std::abs(with_me - with_peer) > silent || silent == 0;
      if (decided || me_->aborted() || detail::now_ns() > until) {
        return with_me < with_peer ? me_->rank : peer;
      }
      ::sched_yield();
    }
  }

  [[nodiscard]] std::string differs(int peer, std::uint64_t theirs) const {
    return "rank " + std::to_string(peer) + " called " + to_string(call_signature::unpack(theirs)) +
           " where rank " + std::to_string(me_->rank) + " called " +
           to_string(call_signature::unpack(signature_)) + "; every rank must call the same";
  }

  void time_out(int peer) {
    auto const latest = [&](int r) {
      return word(entry_of(r).latest).load(std::memory_order_acquire);
    };
    bool stopped = false;
    peer = patience_.culprit(peer, stopped, [&](int r) {
      return latest(r) == epoch_ ? word(entry_of(r).waiting_on).load(std::memory_order_relaxed) : 0;
    });
    std::string what = " is in it but silent";
    if (latest(peer) < epoch_) {
      what = " has not called it (its last call here was #" +
             std::to_string(ordinal(latest(peer))) + ")";
    }
    if (stopped) { what = " is stopped (SIGSTOP or a debugger)"; }
    fail(errc::timeout, peer,
         "rank " + std::to_string(peer) + what + " after " +
           std::to_string(patience_.waited_ns() / 1'000'000) + " ms");
  }

  member const* me_;
  ledger* calls_;
  detail::patience patience_;
  std::uint64_t epoch_;
  std::uint64_t signature_ = 0;
  bool failed_ = false;
};

/// One CPU thread as a rank's thread group. Also nvcc may compile code that uses it; only the CPU
/// runs it.
struct host_thread {
  host_waiter* waiter;

  static constexpr unsigned tile = 256;
  [[nodiscard]] TPX_HD static constexpr unsigned thread_rank() noexcept { return 0; }
  [[nodiscard]] TPX_HD static constexpr unsigned size() noexcept { return 1; }
  [[nodiscard]] TPX_HD static constexpr unsigned channel() noexcept { return 0; }
  [[nodiscard]] TPX_HD static constexpr unsigned channels() noexcept { return 1; }
  TPX_HD static constexpr void sync() noexcept {}
  [[nodiscard]] TPX_HD static constexpr bool all(bool ok) noexcept { return ok; }
  template <unsigned>
  static constexpr unsigned threads = 1;
  [[nodiscard]] TPX_HD static unsigned members() noexcept { return 1; }
  [[nodiscard]] TPX_HD static unsigned member() noexcept { return 0; }
  TPX_HD static void meet() noexcept {}
  TPX_HD static void arrive() noexcept {}
  TPX_HD static void await() noexcept {}
  template <class A, unsigned M, class Op>
  TPX_HD static void reduce(A (&)[M], Op const&) noexcept {}
  [[nodiscard]] TPX_HD bool pause(unsigned polls, std::uint64_t& flag, goal wanted,
                                  int peer) const {
    bool go_on = false;
    NV_IF_TARGET(NV_IS_HOST, (go_on = waiter->pause(polls, flag, wanted, peer);))
    return go_on;
  }
  TPX_HD void ring(int peer) const { NV_IF_TARGET(NV_IS_HOST, (waiter->ring(peer);)) }
  TPX_HD void mismatch(int peer, std::uint64_t signature) const {
    NV_IF_TARGET(NV_IS_HOST, (waiter->mismatch(peer, signature);))
  }
};
static_assert(folding_group<host_thread>);

}  // namespace tpx
