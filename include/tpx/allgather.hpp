// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cut.hpp>
#include <tpx/protocol/pushing_plan.hpp>
#include <tpx/protocol/scatter.hpp>

namespace tpx {

/// Gives every rank all ranks' columns of a matrix, cut as the plan cuts split `Split`.
///
/// Shapes  in: (m.rows, own columns), rows m.in_pitch apart; out: (m.rows, all columns), rows
///         m.out_pitch apart; a unit of the split has m.dim columns. `in` may be the very place in
///         `out` where it goes. Ranks that hold copies of a column must hold the same values.
/// Errors  invalid_argument (an array is too short); else as for allreduce.
/// Cost    AllPairs one hop, Ring n-1, Tree n times log2(n).
template <class Split, class Comm, class Plan, array In, array Out>
void allgather(Comm& comm, Plan const& plan, In const& in, Out&& out, matrix m,
               stream_of<Comm> stream = {}) {
  using T = element_of<In>;
  auto const held = detail::cut<Split>(plan, comm.size(), m.dim);
  auto const cut = detail::without_copies(held, comm.size());
  std::span<T const> const x{in};
  std::span<T> const y{out};
  int const me = comm.rank();
  std::size_t const width = detail::width(held, comm.size());
  if (m.in_pitch == 0) { m.in_pitch = held.size(me); }
  if (m.out_pitch == 0) { m.out_pitch = width; }
  detail::expect_rows(collective::allgather, "input", x.size(), m.rows, held.size(me), m.in_pitch);
  detail::expect_rows(collective::allgather, "output", y.size(), m.rows, width, m.out_pitch);
  auto const* const own = x.data() + (cut.begin[me] - held.begin[me]);
  if (own != y.data() + cut.begin[me] || (m.in_pitch != m.out_pitch && m.rows > 1)) {
    detail::expect_apart(collective::allgather, x.data(), x.size(), y.data(), y.size());
  }
  auto const call =
    detail::describe<T, Split>(collective::allgather, m.rows, held, held, comm.size(), 0, 0);
  if constexpr (collective_library<typename Comm::transport_type>) {
    comm.allgather(call, cut, m.rows, own, m.in_pitch, y.data(), m.out_pitch, stream);
  } else {
    comm.run(call, x.size_bytes(), stream, [&](wires const& w, auto const& go) {
      if constexpr (std::remove_cvref_t<decltype(go)>::pushes) {
        if (std::size_t const n = cut.size(me); m.rows == 1 && detail::equal_parts(cut, w.size())) {
          detail::with_peers(w.size(), [&](auto peers) {
            rank_set const other = others(w);
            bool const apart = own != y.data() + cut.begin[me];
            detail::push<true>(
              pushed_copy<T, decltype(peers)::value>{w, own, y.data(), n, n, other, other, apart},
              go);
          });
          return;
        }
      }
      go(allgather_protocol<typename Comm::topology_type, T, Comm::transport_type::shared>{
        w, cut, m.rows, own, m.in_pitch, y.data(), m.out_pitch});
    });
  }
}

/// Gives every rank all ranks' values, in rank order: in (n), out (ranks, n); in place where `in`
/// is rank's row of `out`.
template <class Comm, array In, array Out>
void allgather(Comm& comm, In const& in, Out&& out, stream_of<Comm> stream = {}) {
  std::size_t const n = std::span{in}.size();
  allgather<split::even>(comm, split::even{n}, in, out, {.rows = 1}, stream);
}

}  // namespace tpx
