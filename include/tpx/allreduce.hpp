// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/protocol/allreduce.hpp>

namespace tpx {

/// Reduces element by element over all ranks; every rank ends with the same bits.
///
/// Shapes  in, out: (n), the same n on every rank; `out` may be `in`. 0 elements: nothing happens.
/// Order   AllPairs, Auto: rank 0, 1, 2, ... whatever n. Ring, Tree: see there. 16-bit types are
///         added in fp32 and rounded once, after the epilogue.
/// Errors  invalid_argument (sizes differ here, arrays overlap in part); mismatch, timeout, left,
///         peer_died, rank_failed, naming the rank at fault; `out` is then undefined.
/// Cost    AllPairs: one hop up to `one_shot_bytes`, two above; Ring: 2(n-1); Tree: 2 log2(n).
template <class Comm, array In, array Out, class Op = Sum, class Epilogue = no_epilogue>
requires reduction<Op, accumulate_t<element_of<In>>>
void allreduce(Comm& comm, In const& in, Out&& out, Op op = {}, Epilogue epilogue = {}) {
  using T = element_of<In>;
  using Topology = typename Comm::topology_type;
  constexpr bool shared = Comm::transport_type::shared;
  static_assert(tpx::epilogue<Epilogue, accumulate_t<T>>,
                "an epilogue is a trivially copyable (value, index) -> value");
  static_assert(detail::commutative<Op> || Topology::rank_order,
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
  auto const call = detail::describe<T>(collective::allreduce, x.size(), detail::op_code<Op>());
  comm.run(call, x.size_bytes(), [&](wires const& w) {
    return [&](auto const& group) {
      if constexpr (!Topology::rotates) {
        rooted_allreduce<Topology, T, Op, Epilogue, shared>{w,        x.data(), y.data(),
                                                            x.size(), op,       epilogue}(group);
      } else {
        if constexpr (Topology::flat) {
          if (x.size_bytes() <= Topology::one_shot_bytes || w.size() == 2) {
            one_shot_allreduce<T, Op, Epilogue, shared>{w,        x.data(), y.data(),
                                                        x.size(), op,       epilogue}(group);
            return;
          }
        }
        scattered_allreduce<Topology, T, Op, Epilogue, shared>{w,        x.data(), y.data(),
                                                               x.size(), op,       epilogue}(group);
      }
    };
  });
}

/// In place.
template <class Comm, array X, class Op = Sum, class Epilogue = no_epilogue>
requires reduction<Op, accumulate_t<element_of<X>>>
void allreduce(Comm& comm, X&& x, Op op = {}, Epilogue epilogue = {}) {
  allreduce(comm, x, x, op, epilogue);
}

}  // namespace tpx
