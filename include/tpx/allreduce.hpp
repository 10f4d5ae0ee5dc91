// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/protocol/add_rms_norm.hpp>
#include <tpx/protocol/allreduce.hpp>
#include <tpx/protocol/pushed_allreduce.hpp>
#include <tpx/protocol/pushed_rows.hpp>
#include <tpx/protocol/pushing_plan.hpp>

namespace tpx {
namespace detail {

/// The rows of an all-reduce of n elements, or an error; one without an epilogue of rows.
template <class A, class Epilogue>
std::size_t rows_of(Epilogue const& epilogue, std::size_t n) {
  std::size_t rows = 1;
  if constexpr (row_epilogue<Epilogue, A>) {
    std::size_t const columns = epilogue.columns;
    expects(
      n == 0 || (columns != 0 && n % columns == 0),
      [&] {
        return "allreduce: " + std::to_string(n) + " elements are no rows of " +
               std::to_string(columns) + " columns";
      },
      "set the epilogue's columns to the length of a row");
    rows = n == 0 ? 0 : n / columns;
  }
  return rows;
}

/// Over cells: in one shot or two by size; at once if the areas hold it, else round by round. `job`
/// is of one row.
template <class T, class Op, class Epilogue, class Go>
void push_allreduce(reducing<T, Op, Epilogue> const& job, std::size_t rows, Go const& go) {
  int const n = job.w.size();
  auto const ranks = static_cast<std::size_t>(n);
  auto const by_size = go.one_shot_bytes() / (ranks * ranks);
  auto const limit = go.tune().one_shot_bytes == 0 ? by_size : go.tune().one_shot_bytes;
  with_peers(n, [&](auto peers) {
    constexpr int most = decltype(peers)::value;
    pushed_one_shot<T, Op, Epilogue, most> const one{job};
    using two = pushed_two_shot<T, Op, Epilogue, most>;
    bool const small = most <= 2 || rows * job.n * sizeof(T) <= limit;
    if constexpr (row_epilogue<Epilogue, accumulate_t<T>>) {
      if (small) { return go.by_rows(one, rows); }
      if constexpr (most > 2) { go.by_rows(two{job}, rows); }
    } else if constexpr (most <= 2) {
      push<true>(one, go);
    } else if (!small || !push_at_once(one, go)) {
      push<true>(two{job}, go);
    }
  });
}

/// Through the queues of the communicator's topology.
template <class Comm, class T, class Op, class Epilogue, class Go>
void queue_allreduce(reducing<T, Op, Epilogue> const& job, Go const& go) {
  using Topology = typename Comm::topology_type;
  constexpr bool shared = Comm::transport_type::shared;
  auto const& [w, in, out, n, op, epilogue] = job;
  if constexpr (!Topology::rotates) {
    go(rooted_allreduce<Topology, T, Op, Epilogue, shared>{w, in, out, n, op, epilogue});
  } else {
    if constexpr (Topology::flat) {
      if (n * sizeof(T) <= Topology::one_shot_bytes || w.size() == 2) {
        go(one_shot_allreduce<T, Op, Epilogue, shared>{w, in, out, n, op, epilogue});
        return;
      }
    }
    go(scattered_allreduce<Topology, T, Op, Epilogue, shared>{w, in, out, n, op, epilogue});
  }
}

/// The protocols for an all-reduce of the communicator's kind: where queues carry it, rows are done
/// in a second one, once all are there.
template <class Comm, class T, class Op, class Epilogue, class Go>
void choose_allreduce(reducing<T, Op, Epilogue> job, std::size_t rows, Go const& go) {
  if constexpr (Go::pushes) {
    if (rows > 1) { job.n /= rows; }
    push_allreduce(job, rows, go);
  } else {
    queue_allreduce<Comm>(job, go);
    if constexpr (row_epilogue<Epilogue, accumulate_t<T>>) {
      row_pass<T, Epilogue> const pass{job.out, rows, job.epilogue};
      if (rows != 0) { go(pass, pass.blocks()); }
    }
  }
}

}  // namespace detail

/// Reduces element by element over all ranks; every rank ends with the same bits.
///
/// Shapes  in, out: (n), the same n on every rank; `out` may be `in`. 0 elements: nothing happens.
///         With an epilogue of rows: (rows, columns), without gaps.
/// Order   AllPairs, Auto: rank 0, 1, 2, ... whatever n. Ring, Tree: see there. 16-bit types are
///         added in fp32 and rounded once, after the epilogue.
/// Errors  invalid_argument (sizes differ here or are no whole rows, arrays overlap in part);
/// mismatch, timeout, left,
///         peer_died, rank_failed, naming the rank at fault; `out` is then undefined.
/// Cost    AllPairs: one hop for small messages, two for large ones; Ring: 2(n-1); Tree: 2 log2(n).
template <class Comm, array In, array Out, class Op = Sum, class Epilogue = no_epilogue>
requires reduction<Op, accumulate_t<element_of<In>>> && no_stream_of<Epilogue, Comm>
void allreduce(Comm& comm, In const& in, Out&& out, Op op = {}, Epilogue epilogue = {},
               stream_of<Comm> stream = {}) {
  using T = element_of<In>;
  static_assert(tpx::epilogue<Epilogue, accumulate_t<T>>,
                "an epilogue is a trivially copyable (value, index) -> value");
  static_assert(detail::commutative<Op> || Comm::topology_type::rank_order,
                "Ring and Tree add in an order of their own: an operation that is not commutative "
                "needs AllPairs or Auto");
  std::span<T const> const x{in};
  std::span<T> const y{out};
  expects(x.size() == y.size(), [&] {
    return "allreduce: the input has " + std::to_string(x.size()) + " elements, the output " +
           std::to_string(y.size());
  });
  if (x.data() != y.data()) {
    detail::expect_apart(collective::allreduce, x.data(), x.size(), y.data(), y.size());
  }
  std::size_t const rows = detail::rows_of<accumulate_t<T>>(epilogue, x.size());
  std::uint16_t what = detail::op_code<Op>();
  if constexpr (row_epilogue<Epilogue, accumulate_t<T>>) {
    what = detail::hash_of(what, epilogue.columns);
  }
  auto const call = detail::describe<T>(collective::allreduce, x.size(), what);
  if constexpr (collective_library<typename Comm::transport_type>) {
    comm.allreduce(call, x.data(), y.data(), x.size(), op, epilogue, stream);
  } else {
    comm.run(call, x.size_bytes(), stream, [&](wires const& w, auto const& go) {
      detail::choose_allreduce<Comm>(
        reducing<T, Op, Epilogue>{w, x.data(), y.data(), x.size(), op, epilogue}, rows, go);
    });
  }
}

/// Without an epilogue, on a stream.
template <class Comm, array In, array Out, class Op>
requires reduction<Op, accumulate_t<element_of<In>>>
void allreduce(Comm& comm, In const& in, Out&& out, Op op, stream_of<Comm> stream) {
  allreduce(comm, in, out, op, no_epilogue{}, stream);
}

/// In place.
template <class Comm, array X, class Op = Sum, class Epilogue = no_epilogue>
requires reduction<Op, accumulate_t<element_of<X>>> && no_stream_of<Epilogue, Comm>
void allreduce(Comm& comm, X&& x, Op op = {}, Epilogue epilogue = {}, stream_of<Comm> stream = {}) {
  allreduce(comm, x, x, op, epilogue, stream);
}

template <class Comm, array X, class Op>
requires reduction<Op, accumulate_t<element_of<X>>>
void allreduce(Comm& comm, X&& x, Op op, stream_of<Comm> stream) {
  allreduce(comm, x, x, op, no_epilogue{}, stream);
}

}  // namespace tpx
