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
  static_assert(!collective_library<typename Comm::transport_type>,
                "NCCL has no barrier in two stages: use barrier()");

 public:
  explicit split_barrier(Comm& comm, stream_of<Comm> stream = {}) : comm_{comm}, stream_{stream} {
    comm_.start({collective::barrier}, stream_, [](wires const& w, auto const& go) {
      go(barrier_arrive<typename Comm::topology_type>{w});
    });
  }
  split_barrier(split_barrier&&) = delete;

  void wait() {
    comm_.finish({collective::barrier}, stream_, [](wires const& w, auto const& go) {
      go(barrier_wait<typename Comm::topology_type>{w});
    });
  }

 private:
  Comm& comm_;
  stream_of<Comm> stream_;
};

/// Returns once every rank has called it; what any rank wrote before is visible to all after.
template <class Comm>
void barrier(Comm& comm, stream_of<Comm> stream = {}) {
  if constexpr (collective_library<typename Comm::transport_type>) {
    comm.barrier({collective::barrier}, stream);
  } else {
    comm.run({collective::barrier}, 0, stream, [](wires const& w, auto const& go) {
      if constexpr (std::remove_cvref_t<decltype(go)>::pushes) {
        go(turn_barrier{w}, 1);
      } else {
        go(whole_barrier<typename Comm::topology_type>{w});
      }
    });
  }
}

}  // namespace tpx
