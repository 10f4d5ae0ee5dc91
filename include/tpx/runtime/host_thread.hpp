// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/member.hpp>
#include <tpx/runtime/process_state.hpp>
#include <tpx/runtime/signature.hpp>
#include <tpx/space.hpp>

#include <algorithm>
#include <thread>

namespace tpx {

/// How one rank waits for others on the CPU: polls, then yields its core, then sleeps; and in
/// between looks for aborts, ranks that left, calls that differ, and the deadline.
class host_waiter {
 public:
  /// `calls`: the ledger of the communicator whose operations this waits in.
  host_waiter(member const& me, ledger& calls) : me_{&me}, calls_{&calls} {
    unsigned const cores = std::max(1u, std::thread::hardware_concurrency());
    spins_ = static_cast<unsigned>(me.size) <= cores ? 100 : 10;
    yields_ = spins_ + 512;
    epoch_ = me.generation << 40;  // a new generation's numbers lie above all older ones
  }

  /// Starts an operation: throws if the group is aborted, then tells the others what is called.
  void begin(call_signature call) {
    me_->check();
    ++epoch_;
    signature_ = call.pack();
    started_ns_ = 0;
    failed_ = false;
    auto& mine = calls_->rank[me_->rank];
    auto const place = epoch_ % ledger::depth;
    word(mine.epoch[place]).store(0, std::memory_order_relaxed);
    word(mine.signature[place]).store(signature_, std::memory_order_release);
    word(mine.epoch[place]).store(epoch_, std::memory_order_release);
    word(mine.latest).store(epoch_, std::memory_order_release);
  }

  /// Ends an operation: throws what made a wait in it fail.
  void end() const {
    if (failed_) { me_->check(); }
  }

  /// Number of the operation, from 1, as people count them; `epoch()` never repeats.
  [[nodiscard]] static std::uint64_t ordinal(std::uint64_t epoch) {
    return epoch & ((std::uint64_t{1} << 40) - 1);
  }
  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  [[nodiscard]] std::uint64_t signature() const { return signature_; }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] member const& me() const { return *me_; }

  /// See thread_group. Cost: nothing but a few instructions until the spin budget is used up.
  [[nodiscard]] bool pause(unsigned polls, std::uint64_t& flag, std::uint64_t value, int peer) {
    if (failed_) { return false; }
    if (polls < spins_) {
      detail::relax();
      return true;
    }
    if (polls < yields_ && polls % 64 != 63) {
      ::sched_yield();
      return true;
    }
    return look(polls, flag, value, peer);
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
  static bool reached(std::uint64_t& flag, std::uint64_t value) {
    return word(flag).load(std::memory_order_acquire) >= value;
  }

  bool look(unsigned polls, std::uint64_t& flag, std::uint64_t value, int peer) {
    if (me_->aborted()) {
      failed_ = true;
      return false;
    }
    auto const now = detail::now_ns();
    if (started_ns_ == 0) { started_ns_ = now; }
    auto const latest = word(calls_->rank[peer].latest).load(std::memory_order_acquire);
    bool const gone = word(me_->block(peer).state).load(std::memory_order_acquire) ==
                      static_cast<std::uint32_t>(rank_state::left);
    if (reached(flag, value)) { return true; }  // before the verdicts: they must not outrun it
    if (auto const theirs = recorded(peer); theirs != 0 && theirs != signature_) {
      mismatch(peer, theirs);
      return false;
    }
    if (latest > epoch_) {
      fail(errc::mismatch, peer,
           "rank " + std::to_string(peer) + " went on to its operation #" +
             std::to_string(ordinal(latest)) + " without taking part in this one");
      return false;
    }
    if (gone) {
      fail(errc::left, peer,
           "rank " + std::to_string(peer) + " returned after " + std::to_string(ordinal(latest)) +
             " operations and is waited for");
      return false;
    }
    auto const waited = now - started_ns_;
    auto const limit = static_cast<std::uint64_t>(me_->deadline.count());
    if (waited >= limit) {
      time_out(peer, waited);
      return false;
    }
    if (polls >= yields_) { sleep(polls - yields_, limit - waited, flag, value, peer); }
    return true;
  }

  void sleep(unsigned naps, std::uint64_t left_ns, std::uint64_t& flag, std::uint64_t value,
             int peer) {
    auto& waiting = calls_->rank[me_->rank].waiting_on;
    word(waiting).store(static_cast<std::uint64_t>(peer) + 1, std::memory_order_relaxed);
    auto const nap = std::uint64_t{1'000'000} << std::min(naps, 5u);  // 1 to 32 ms
    detail::sleep_on(me_->control->bells[me_->seat[me_->rank]].asleep, std::min(nap, left_ns),
                     [&] { return reached(flag, value) || me_->aborted(); });
    word(waiting).store(0, std::memory_order_relaxed);
  }

  /// What rank r says it called as its operation of our number; 0 if it has not, or no longer says.
  [[nodiscard]] std::uint64_t recorded(int r) const {
    auto& entry = calls_->rank[r];
    auto const place = epoch_ % ledger::depth;
    if (word(entry.epoch[place]).load(std::memory_order_acquire) != epoch_) { return 0; }
    auto const said = word(entry.signature[place]).load(std::memory_order_acquire);
    bool const still = word(entry.epoch[place]).load(std::memory_order_acquire) == epoch_;
    return still ? said : 0;
  }

  /// Of two ranks that differ, the one that fewer ranks agree with; the peer on a draw.
  [[nodiscard]] int blame_mismatch(int peer, std::uint64_t theirs) const {
    int with_me = 0;
    int with_peer = 0;
    for (int r = 0; r < me_->size; ++r) {
      auto const said = recorded(r);
      with_me += static_cast<int>(said == signature_);
      with_peer += static_cast<int>(said == theirs);
    }
    return with_me < with_peer ? me_->rank : peer;
  }

  [[nodiscard]] std::string differs(int peer, std::uint64_t theirs) const {
    return "rank " + std::to_string(peer) + " called " + to_string(call_signature::unpack(theirs)) +
           " where rank " + std::to_string(me_->rank) + " called " +
           to_string(call_signature::unpack(signature_)) + "; every rank must call the same";
  }

  /// Blames the rank at the end of the chain of ranks that wait for one another, or one whose
  /// process is stopped.
  void time_out(int peer, std::uint64_t waited_ns) {
    std::string what = " has not arrived";
    for (int hops = 0; hops < me_->size; ++hops) {
      auto const next = word(calls_->rank[peer].waiting_on).load(std::memory_order_relaxed);
      auto const ahead = word(calls_->rank[peer].latest).load(std::memory_order_acquire);
      if (ahead == epoch_) { what = " is in it but silent"; }
      if (ahead < epoch_) {
        what =
          " has not called it (its last call here was #" + std::to_string(ordinal(ahead)) + ")";
      }
      if (ahead != epoch_ || next == 0 || next > static_cast<std::uint64_t>(me_->size)) { break; }
      peer = static_cast<int>(next) - 1;
    }
    for (int r = 0; r < me_->size; ++r) {
      if (me_->processes &&
          detail::process_stopped(word(me_->block(r).pid).load(std::memory_order_relaxed))) {
        peer = r;
        what = " is stopped (SIGSTOP or a debugger)";
      }
    }
    fail(errc::timeout, peer,
         "rank " + std::to_string(peer) + what + " after " + std::to_string(waited_ns / 1'000'000) +
           " ms");
  }

  member const* me_;
  ledger* calls_;
  std::uint64_t epoch_ = 0;
  std::uint64_t signature_ = 0;
  std::uint64_t started_ns_ = 0;
  unsigned spins_;
  unsigned yields_;
  bool failed_ = false;
};

/// One CPU thread as a rank's thread group.
struct host_thread {
  host_waiter* waiter;

  static constexpr unsigned tile = 256;
  [[nodiscard]] static constexpr unsigned thread_rank() noexcept { return 0; }
  [[nodiscard]] static constexpr unsigned size() noexcept { return 1; }
  [[nodiscard]] static constexpr unsigned channel() noexcept { return 0; }
  [[nodiscard]] static constexpr unsigned channels() noexcept { return 1; }
  static constexpr void sync() noexcept {}
  [[nodiscard]] static constexpr bool all(bool ok) noexcept { return ok; }
  [[nodiscard]] bool pause(unsigned polls, std::uint64_t& flag, std::uint64_t value,
                           int peer) const {
    return waiter->pause(polls, flag, value, peer);
  }
  void ring(int peer) const { waiter->ring(peer); }
  void mismatch(int peer, std::uint64_t signature) const { waiter->mismatch(peer, signature); }
};
static_assert(thread_group<host_thread>);

}  // namespace tpx
