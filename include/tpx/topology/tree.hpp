// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/topology/topology.hpp>

namespace tpx {

/// A binary tree: 2 log2(n) hops for an all-reduce; messages are cut into pieces, and the pieces'
/// ways up and down overlap. For small messages over links that suffer when one rank sends to many.
///
/// Counting ranks from the root, rank v hands to 2v+1 and 2v+2. A node adds its own values and its
/// children's sums in ascending order of rank.
struct Tree {
  static constexpr bool flat = false;
  static constexpr bool rotates = false;
  static constexpr bool rank_order = false;
  TPX_HD static constexpr int parent(int rank, int root, int n) {
    int const v = (rank - root + n) % n;
    return v == 0 ? -1 : ((v - 1) / 2 + root) % n;
  }
};
static_assert(topology<Tree>);

}  // namespace tpx
