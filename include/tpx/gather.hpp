// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cut.hpp>
#include <tpx/protocol/gather.hpp>
#include <tpx/protocol/pushing_plan.hpp>

namespace tpx {
namespace detail {

template <class Split, class Comm, class T>
void gather(Comm& comm, columns const& held, columns const& target, std::span<T const> x,
            std::span<T> y, matrix m, int root, stream_of<Comm> stream) {
  int const me = comm.rank();
  if (m.in_pitch == 0) { m.in_pitch = held.size(me); }
  if (m.out_pitch == 0) { m.out_pitch = target.size(me); }
  expect_rows(collective::gather, "input", x.size(), m.rows, held.size(me), m.in_pitch);
  expect_rows(collective::gather, "output", y.size(), m.rows, target.size(me), m.out_pitch);
  expect_apart(collective::gather, x.data(), x.size(), y.data(),
               target.size(me) == 0 ? 0 : y.size());
  auto const call =
    describe<T, Split>(collective::gather, m.rows, held, target, comm.size(), 0, root);
  auto const source = without_copies(held, comm.size());
  if constexpr (collective_library<typename Comm::transport_type>) {
    comm.gather(call, source, target, m.rows, x.data(), m.in_pitch, held.begin[me], y.data(),
                m.out_pitch, stream);
  } else {
    comm.run(call, x.size_bytes(), stream, [&](wires const& w, auto const& go) {
      if constexpr (std::remove_cvref_t<decltype(go)>::pushes) {
        bool const whole = target.size(root) == width(held, w.size());
        if (m.rows == 1 && whole && alone(target, root, w.size()) &&
            equal_parts(source, w.size())) {
          with_peers(w.size(), [&](auto peers) {
            bool const takes = me == root;
            rank_set const other = all_but(w, root);
            auto const* const own = x.data() + (source.begin[me] - held.begin[me]);
            push<false>(pushed_copy<T, decltype(peers)::value>{w, own, y.data(), source.size(me),
                                                               source.size(me),
                                                               takes ? 0 : rank_set{1} << root,
                                                               takes ? other : 0, takes},
                        go);
          });
          return;
        }
      }
      go(gather_protocol<typename Comm::topology_type, T>{
        w, source, target, m.rows, x.data(), m.in_pitch, held.begin[me], y.data(), m.out_pitch});
    });
  }
}

}  // namespace detail

/// Brings all ranks' columns of a matrix, cut as the plan cuts split `Split`, to the root.
///
/// Shapes  in: (m.rows, own columns), rows m.in_pitch apart; out: (m.rows, all columns) on the
///         root, rows m.out_pitch apart, not looked at elsewhere; a unit of the split has m.dim
///         columns. Ranks that hold copies of a column must hold the same values.
/// Errors  invalid_argument (no such root, an array is too short, arrays overlap); else as for
///         allreduce. A rank that only sends may return before the root has read.
/// Cost    AllPairs one hop, Ring n-1, Tree log2(n).
template <class Split, class Comm, class Plan, array In, array Out>
void gather(Comm& comm, Plan const& plan, In const& in, Out&& out, matrix m, int root = 0,
            stream_of<Comm> stream = {}) {
  using T = element_of<In>;
  detail::expect_root(collective::gather, root, comm.size());
  auto const held = detail::cut<Split>(plan, comm.size(), m.dim);
  columns target{};
  target.end[root] = detail::width(held, comm.size());
  detail::gather<Split, Comm, T>(comm, held, target, in, std::span<T>{out}, m, root, stream);
}

/// The same, then cut anew: each rank ends with the columns that split `Target` gives it
/// (exllamav2's tp_gather with its `broadcast_type`; `split::All` leaves all columns everywhere).
/// out: (m.rows, the columns of Target), rows m.out_pitch apart. Both splits must cut the same
/// number of columns: m.dim a unit of Split, m.target_dim a unit of Target.
template <class Split, class Target, class Comm, class Plan, array In, array Out>
void gather(Comm& comm, Plan const& plan, In const& in, Out&& out, matrix m,
            stream_of<Comm> stream = {}) {
  using T = element_of<In>;
  auto const held = detail::cut<Split>(plan, comm.size(), m.dim);
  auto const all = detail::width(held, comm.size());
  columns target{};
  if constexpr (std::is_same_v<Target, split::All>) {
    for (int r = 0; r < comm.size(); ++r) { target.end[r] = all; }
  } else {
    target = detail::cut<Target>(plan, comm.size(), m.target_dim == 0 ? m.dim : m.target_dim);
    auto const wanted = detail::width(target, comm.size());
    expects(
      wanted == all,
      [&] {
        return "gather: the source split cuts " + std::to_string(all) + " columns, the target " +
               std::to_string(wanted);
      },
      "set m.dim and m.target_dim to the columns of one unit of each split");
  }
  detail::gather<Split, Comm, T>(comm, held, target, in, std::span<T>{out}, m, 0, stream);
}

/// Brings all ranks' values to the root in rank order: in (n), out (ranks, n) on the root.
template <class Comm, array In, array Out>
void gather(Comm& comm, In const& in, Out&& out, int root = 0, stream_of<Comm> stream = {}) {
  std::size_t const n = std::span{in}.size();
  gather<split::even>(comm, split::even{n}, in, out, {.rows = 1}, root, stream);
}

}  // namespace tpx
