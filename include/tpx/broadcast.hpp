// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/protocol/scatter.hpp>

namespace tpx {

/// Gives every rank the root's values.
///
/// Shapes  x: (n), the same n on every rank; read on `root`, written on the others.
/// Errors  invalid_argument (no such root); else as for allreduce. The root may return before the
///         others have read: an error of theirs then reaches it with its next call.
/// Cost    AllPairs one hop, Ring n-1, Tree log2(n), a slot at a time.
template <class Comm, array X>
void broadcast(Comm& comm, X&& x, int root = 0) {
  using T = element_of<X>;
  std::span<T> const values{x};
  detail::expect_root(collective::broadcast, root, comm.size());
  comm.run(
    detail::describe<T>(collective::broadcast, values.size(), 0, root), values.size_bytes(),
    [&](wires const& w) {
      return broadcast_protocol<typename Comm::topology_type, T, Comm::transport_type::shared>{
        w, values.data(), values.size(), root};
    });
}

}  // namespace tpx
