// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>

#include <atomic>
#include <thread>

namespace bench {

/// Where rank threads meet before each timed launch. It spins, so that they leave within a fraction
/// of a microsecond of each other: what they differ by counts as time of the collective.
class gate {
 public:
  explicit gate(int ranks) : ranks_{ranks} {}

  /// Throws if another rank failed.
  void wait(tpx::group const& g) {
    unsigned const turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == ranks_) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (unsigned polls = 1; turn_.load(std::memory_order_acquire) == turn; ++polls) {
      if (polls % 1024 != 0) { continue; }
      g.check();
      if (polls > (1u << 16)) { std::this_thread::yield(); }
    }
  }

 private:
  int ranks_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> turn_{0};
};

}  // namespace bench
