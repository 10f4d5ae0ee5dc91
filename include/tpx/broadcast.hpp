// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/protocol/pushing_plan.hpp>
#include <tpx/protocol/scatter.hpp>

namespace tpx {

/// Gives every rank the root's values.
///
/// Shapes  x: (n), the same n on every rank; read on `root`, written on the others.
/// Errors  invalid_argument (no such root); else as for allreduce. The root may return before the
///         others have read: an error of theirs then reaches it with its next call.
/// Cost    AllPairs one hop, Ring n-1, Tree log2(n), a slot at a time.
template <class Comm, array X>
void broadcast(Comm& comm, X&& x, int root = 0, stream_of<Comm> stream = {}) {
  using T = element_of<X>;
  std::span<T> const values{x};
  detail::expect_root(collective::broadcast, root, comm.size());
  auto const call = detail::describe<T>(collective::broadcast, values.size(), 0, root);
  if constexpr (collective_library<typename Comm::transport_type>) {
    comm.broadcast(call, values.data(), values.size(), root, stream);
  } else {
    comm.run(call, values.size_bytes(), stream, [&](wires const& w, auto const& go) {
      if constexpr (std::remove_cvref_t<decltype(go)>::pushes) {
        detail::with_peers(w.size(), [&](auto peers) {
          bool const gives = w.rank == root;
          rank_set const other = all_but(w, root);
          detail::push<false>(
            pushed_copy<T, decltype(peers)::value>{w, values.data(), values.data(), values.size(),
                                                   0, gives ? other : 0,
                                                   gives ? 0 : rank_set{1} << root, false},
            go);
        });
        return;
      }
      go(broadcast_protocol<typename Comm::topology_type, T, Comm::transport_type::shared>{
        w, values.data(), values.size(), root});
    });
  }
}

}  // namespace tpx
