// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/topology/topology.hpp>

namespace tpx {

/// Each rank talks to its two neighbours: 2(n-1) hops for an all-reduce, 2(n-1)/n of the bytes over
/// each link. For links that suffer when one rank sends to many.
///
/// The share of rank r is begun by rank r-1; r-2, r-3, ... and last r itself add theirs.
/// Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
/// workstations", J. Parallel Distrib. Comput. 69 (2009).
struct Ring {
  static constexpr bool flat = false;
  static constexpr bool rotates = true;
  static constexpr bool rank_order = false;
  TPX_HD static constexpr int parent(int rank, int root, int n) {
    return rank == root ? -1 : (rank + n - 1) % n;
  }
};
static_assert(topology<Ring>);

}  // namespace tpx
