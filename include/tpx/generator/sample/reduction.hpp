// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <span>

namespace tpx {

/// What joins the parts of a row of logits that is cut over ranks: reductions in place, element by
/// element, of a few integers that every rank has as many of. Over a communicator:
///
///     struct over_ranks {
///       comm_t& comm;
///       void max(std::span<std::uint64_t> x) const { tpx::allreduce(comm, x, tpx::Max{}); }
///       void sum(std::span<std::uint64_t> x) const { tpx::allreduce(comm, x, tpx::Sum{}); }
///     };
template <class R>
concept vocabulary_reduction = requires(R const& r, std::span<std::uint64_t> values) {
  r.max(values);
  r.sum(values);
};

/// The row is in one piece: nothing is to be joined.
struct whole_vocabulary {
  void max(std::span<std::uint64_t>) const {}
  void sum(std::span<std::uint64_t>) const {}
};
static_assert(vocabulary_reduction<whole_vocabulary>);

}  // namespace tpx
