// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/member.hpp>
#include <tpx/runtime/signature.hpp>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace tpx::detail {

/// What each rank called on one communicator, in memory that all ranks map. NCCL's messages do not
/// say what was called, so the ranks compare here. Zero bytes are a valid start; one writer an
/// entry.
struct nccl_log {
  static constexpr std::uint64_t depth = 256;
  struct alignas(cache_line) entry {
    std::uint64_t latest;            // number of the newest call, stored last
    std::uint64_t signature[depth];  // of call e in place e mod depth
  };
  entry rank[max_ranks];
};

/// One rank's view of the log.
///
/// A rank stores what it calls and then looks at its two neighbours' calls of the same number; both
/// in sequentially consistent order, so that of two neighbours the later one sees a difference,
/// unless the other is more than `depth` calls ahead. Where any two ranks differ, so do two
/// neighbours.
class nccl_caller {
 public:
  nccl_caller(member const& me, nccl_log& log) : me_{me}, log_{&log} {}

  /// Numbers a call and compares it. Errors: mismatch, once the group has been told.
  std::uint64_t begin(call_signature call) {
    auto const mine = call.pack();
    auto& entry = log_->rank[me_.rank];
    ++epoch_;
    word(entry.signature[epoch_ % nccl_log::depth]).store(mine, std::memory_order_release);
    word(entry.latest).store(epoch_);
    for (int const step : {1, me_.size - 1}) {
      int const peer = (me_.rank + step) % me_.size;
      if (auto const theirs = said(peer, epoch_); theirs != 0 && theirs != mine) {
        differ(peer, mine, theirs);
      }
    }
    return epoch_;
  }

  /// The first rank that has not called number `epoch`, or -1. From any thread.
  [[nodiscard]] int absent(std::uint64_t epoch) const {
    for (int r = 0; r < me_.size; ++r) {
      if (word(log_->rank[r].latest).load(std::memory_order_acquire) < epoch) { return r; }
    }
    return -1;
  }

  /// The first rank that has left the group without calling number `epoch`, or -1.
  [[nodiscard]] int gone(std::uint64_t epoch) const {
    for (int r = 0; r < me_.size; ++r) {
      bool const left = word(me_.block(r).state).load(std::memory_order_acquire) ==
                        static_cast<std::uint32_t>(rank_state::left);
      if (left && word(log_->rank[r].latest).load(std::memory_order_acquire) < epoch) { return r; }
    }
    return -1;
  }

  [[nodiscard]] std::uint64_t latest(int r) const {
    return word(log_->rank[r].latest).load(std::memory_order_acquire);
  }

 private:
  /// What rank r called as number `epoch`; 0 if it has not, or no longer says.
  [[nodiscard]] std::uint64_t said(int r, std::uint64_t epoch) const {
    auto& entry = log_->rank[r];
    if (word(entry.latest).load() < epoch) { return 0; }
    auto const what =
      word(entry.signature[epoch % nccl_log::depth]).load(std::memory_order_acquire);
    // The place is written again for call epoch + depth, after `latest` became epoch + depth - 1.
    bool const still = latest(r) + 1 < epoch + nccl_log::depth;
    return still ? what : 0;
  }

  /// Of two ranks that differ, blames the one that fewer ranks agree with; the peer on a draw.
  /// Gives the others up to half a second to call.
  [[noreturn]] void differ(int peer, std::uint64_t mine, std::uint64_t theirs) const {
    auto const patience = std::min(me_.deadline, std::chrono::nanoseconds{500'000'000});
    auto const until = now_ns() + static_cast<std::uint64_t>(patience.count());
    int with_me = 0;
    int with_peer = 0;
    for (;;) {
      with_me = with_peer = 0;
      int silent = 0;
      for (int r = 0; r < me_.size; ++r) {
        auto const what = said(r, epoch_);
        with_me += static_cast<int>(what == mine);
        with_peer += static_cast<int>(what == theirs);
        silent += static_cast<int>(what == 0);
      }
      bool const decided = std::abs(with_me - with_peer) > silent || silent == 0;
      if (decided || me_.aborted() || now_ns() > until) { break; }
      ::sched_yield();
    }
    auto const text = [](std::uint64_t what) { return to_string(call_signature::unpack(what)); };
    me_.raise(errc::mismatch, with_me < with_peer ? me_.rank : peer,
              "rank " + std::to_string(peer) + " called " + text(theirs) + " where rank " +
                std::to_string(me_.rank) + " called " + text(mine) +
                "; every rank must call the same",
              text(mine), epoch_);
    me_.check();
    throw error{errc::mismatch, "the ranks called different things", {.rank = me_.rank}};
  }

  member me_;
  nccl_log* log_;
  std::uint64_t epoch_ = 0;
};

}  // namespace tpx::detail
