// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/member.hpp>
#include <tpx/runtime/process_state.hpp>
#include <tpx/space.hpp>

#include <algorithm>
#include <string>
#include <thread>

namespace tpx::detail {

/// How a CPU thread passes the time between two polls of another rank's flag: it spins, then yields
/// its core, then sleeps on its bell; and from then on it looks why the flag may never be raised.
class patience {
 public:
  enum class outcome {
    reached,  // the flag is up
    ended,    // the group is aborted, or begun anew without this
    left,     // the awaited rank has left the group
    late,     // the deadline is over
    none,     // no reason to stop waiting
  };

  /// `waiting_on`: a word of shared memory, this rank's alone, that shows whom it waits for (rank +
  /// 1) to those who look for the culprit of a stall. `spin`: polls before the first yield where
  /// each rank has a core.
  patience(member const& me, std::uint64_t& waiting_on, unsigned spin)
      : me_{&me}, waiting_on_{&waiting_on} {
    static unsigned const cores = std::max(1u, std::thread::hardware_concurrency());
    spins_ = static_cast<unsigned>(me.size) <= cores ? spin : 10;
  }

  /// No wait is under way.
  void restart() { wait_on(0); }

  /// Since this wait became long. Every wait has the whole deadline, so that a long operation that
  /// goes on is none too late.
  [[nodiscard]] std::uint64_t waited_ns() const { return now_ns() - begun_ns_; }

  /// Passes a moment, while it is early. False: look(). A wait counts its polls from 0.
  [[nodiscard]] bool brief(unsigned polls) {
    if (polls == 0) { begun_ns_ = 0; }
    if (polls < spins_) {
      relax();
      return true;
    }
    auto const now = now_ns();
    if (begun_ns_ == 0) {
      begun_ns_ = now;
      naps_ = 0;
    }
    // By time and not by count: on a busy machine one yield may last as long as a thousand.
    yielding_ = now - begun_ns_ < 100'000;
    if (!yielding_ || polls % 64 == 63) { return false; }
    ::sched_yield();
    return true;
  }

  /// Whether the wait for rank `peer` to bring `flag` to a goal has an end.
  [[nodiscard]] outcome look(std::uint64_t& flag, goal wanted, int peer, bool forever = false) {
    if (over()) { return outcome::ended; }
    bool const gone = word(me_->block(peer).state).load(std::memory_order_acquire) ==
                      static_cast<std::uint32_t>(rank_state::left);
    if (reached(flag, wanted)) { return outcome::reached; }  // whoever left had raised it before
    if (gone) { return outcome::left; }
    return !forever && waited_ns() >= limit_ns() ? outcome::late : outcome::none;
  }

  /// After look(): sleeps until woken, a little longer each time, 1 to 32 ms.
  void sleep(std::uint64_t& flag, goal wanted, int peer, bool forever = false) {
    if (yielding_) { return; }
    wait_on(static_cast<std::uint64_t>(peer) + 1);
    auto const nap = std::uint64_t{1'000'000} << std::min(naps_++, 5u);
    auto const rest = limit_ns() - std::min(limit_ns(), waited_ns());
    sleep_on(me_->control->bells[me_->seat[me_->rank]].asleep, forever ? nap : std::min(nap, rest),
             [&] { return reached(flag, wanted) || over(); });
    if (reached(flag, wanted)) { wait_on(0); }
  }

  /// The rank at the end of the chain of ranks that wait for one another, as `next(rank)` tells
  /// (rank + 1, or 0), from `peer` on; or one whose process is stopped, which then is `stopped`.
  template <class Next>
  [[nodiscard]] int culprit(int peer, bool& stopped, Next&& next) const {
    for (int r = 0; r < me_->size; ++r) {
      stopped = me_->processes && process_stopped(word(me_->block(r).pid).load());
      if (stopped) { return r; }
    }
    for (int hops = 0; hops < me_->size; ++hops) {
      std::uint64_t const after = next(peer);
      bool const self = after == static_cast<std::uint64_t>(me_->rank) + 1;
      if (after == 0 || after > static_cast<std::uint64_t>(me_->size) || self) { break; }
      peer = static_cast<int>(after) - 1;
    }
    return peer;
  }

 private:
  [[nodiscard]] static bool reached(std::uint64_t& flag, goal wanted) {
    return wanted.reached(word(flag).load(std::memory_order_acquire));
  }
  [[nodiscard]] bool over() const { return me_->aborted() || me_->superseded(); }
  [[nodiscard]] std::uint64_t limit_ns() const {
    return static_cast<std::uint64_t>(me_->deadline.count());
  }
  void wait_on(std::uint64_t whom) {
    if (shown_ == whom) { return; }
    shown_ = whom;
    word(*waiting_on_).store(whom, std::memory_order_relaxed);
  }

  member const* me_;
  std::uint64_t* waiting_on_;
  std::uint64_t shown_ = 0;
  std::uint64_t begun_ns_ = 0;
  unsigned spins_;
  unsigned naps_ = 0;
  bool yielding_ = false;
};

}  // namespace tpx::detail
