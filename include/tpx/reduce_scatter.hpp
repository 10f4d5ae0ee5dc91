// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cut.hpp>
#include <tpx/protocol/pushed_fold.hpp>
#include <tpx/protocol/pushing_plan.hpp>
#include <tpx/protocol/scatter.hpp>

namespace tpx {

/// Reduces a matrix over all ranks and leaves each rank with its columns of the result, cut as the
/// plan cuts split `Split`; ranks with copies of a column each get it.
///
/// Shapes  in: (m.rows, all columns), rows m.in_pitch apart; out: (m.rows, own columns), without
///         gaps; a unit of the split has m.dim columns. In place: `out` may be the place in `in` of
///         this rank's columns if there is one row.
/// Order, errors: as for allreduce. The epilogue's index counts elements of `out`.
/// Cost    AllPairs one hop, Ring n-1, Tree n times log2(n).
template <class Split, class Comm, class Plan, array In, array Out, class Op = Sum,
          class Epilogue = no_epilogue>
requires no_stream_of<Epilogue, Comm>
void reduce_scatter(Comm& comm, Plan const& plan, In const& in, Out&& out, matrix m, Op op = {},
                    Epilogue epilogue = {}, stream_of<Comm> stream = {}) {
  using T = element_of<In>;
  using Topology = typename Comm::topology_type;
  static_assert(reduction<Op, accumulate_t<T>>,
                "an operation is a trivially copyable (value, value) -> value");
  static_assert(!row_epilogue<Epilogue, accumulate_t<T>>,
                "an epilogue of rows needs whole rows: allreduce");
  static_assert(detail::commutative<Op> || Topology::rank_order,
                "Ring and Tree add in an order of their own: an operation that is not commutative "
                "needs AllPairs or Auto");
  auto const cut = detail::cut<Split>(plan, comm.size(), m.dim);
  std::span<T const> const x{in};
  std::span<T> const y{out};
  std::size_t const own = cut.size(comm.rank());
  std::size_t const width = detail::width(cut, comm.size());
  if (m.in_pitch == 0) { m.in_pitch = width; }
  detail::expect_rows(collective::reduce_scatter, "input", x.size(), m.rows, width, m.in_pitch);
  detail::expect_rows(collective::reduce_scatter, "output", y.size(), m.rows, own, own);
  if (m.rows != 1 || y.data() != x.data() + cut.begin[comm.rank()]) {
    detail::expect_apart(collective::reduce_scatter, x.data(), x.size(), y.data(), y.size());
  }
  auto const call = detail::describe<T, Split>(collective::reduce_scatter, m.rows, cut, cut,
                                               comm.size(), detail::op_code<Op>(), 0);
  if constexpr (collective_library<typename Comm::transport_type>) {
    comm.reduce_scatter(call, cut, m.rows, x.data(), m.in_pitch, y.data(), op, epilogue, stream);
  } else {
    comm.run(call, x.size_bytes(), stream, [&](wires const& w, auto const& go) {
      if constexpr (std::remove_cvref_t<decltype(go)>::pushes) {
        if (m.rows == 1 && detail::equal_parts(cut, w.size())) {
          detail::with_peers(w.size(), [&](auto peers) {
            reducing<T, Op, Epilogue> const job{w, x.data(), y.data(), own, op, epilogue};
            detail::push<true>(pushed_reduce_scatter<T, Op, Epilogue, decltype(peers)::value>{job},
                               go);
          });
          return;
        }
      }
      go(reduce_scatter_protocol<Topology, T, Op, Epilogue, Comm::transport_type::shared>{
        w, cut, m.rows, x.data(), m.in_pitch, y.data(), op, epilogue});
    });
  }
}

/// The same for an array: in (ranks, n), out (n), which may be this rank's row of `in`.
template <class Comm, array In, array Out, class Op = Sum, class Epilogue = no_epilogue>
requires no_stream_of<Epilogue, Comm>
void reduce_scatter(Comm& comm, In const& in, Out&& out, Op op = {}, Epilogue epilogue = {},
                    stream_of<Comm> stream = {}) {
  std::size_t const n = std::span{out}.size();
  reduce_scatter<split::even>(comm, split::even{n}, in, out, {.rows = 1}, op, epilogue, stream);
}

}  // namespace tpx
