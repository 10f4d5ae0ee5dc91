// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/protocol/barrier.hpp>

namespace tpx {

/// A barrier in two stages: its constructor says that this rank has come, `wait()` returns once all
/// ranks have. Work that others do not wait for goes between.
///
/// No other call on the communicator may come between, nor after one that was not waited for.
/// Errors: as for allreduce; invalid_argument for such a call.
/// Cost: AllPairs one hop; Ring 2(n-1); Tree 2 log2(n).
template <class Comm>
class [[nodiscard]] split_barrier {
 public:
  explicit split_barrier(Comm& comm) : comm_{comm} {
    comm_.start({collective::barrier},
                [](wires const& w) { return barrier_arrive<typename Comm::topology_type>{w}; });
  }
  split_barrier(split_barrier&&) = delete;

  void wait() {
    comm_.finish([](wires const& w) { return barrier_wait<typename Comm::topology_type>{w}; });
  }

 private:
  Comm& comm_;
};

/// Returns once every rank has called it; what any rank wrote before is visible to all after.
template <class Comm>
void barrier(Comm& comm) {
  split_barrier<Comm>{comm}.wait();
}

}  // namespace tpx
