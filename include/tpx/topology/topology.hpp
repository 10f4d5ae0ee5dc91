// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace tpx {

/// A set of ranks: bit r is rank r.
using rank_set = std::uint32_t;

/// Who hands to whom. Every collective follows from the tree that a topology lays over the ranks
/// for each root: data goes down it from the root, contributions go up it.
///
/// 1. `parent(rank, root, n)`: who hands to `rank` when `root` sends to all; -1 for the root.
///    Constexpr, so that tests prove for every n and root that it is a tree.
/// 2. `flat`: the root is everybody's parent.
/// 3. `rotates`: when all ranks are roots at once, each begins with its own tree (true), or all go
///    through the roots in rank order (false). Messages between two ranks must keep one order at
///    both ends, so this is a property of the trees.
/// 4. `rank_order`: every reduction adds rank 0, 1, 2, ... whatever the size.
template <class T>
concept topology = requires(int rank, int root, int n) {
  { T::parent(rank, root, n) } -> std::same_as<int>;
  { T::flat } -> std::convertible_to<bool>;
  { T::rotates } -> std::convertible_to<bool>;
  { T::rank_order } -> std::convertible_to<bool>;
};

/// The ranks that `rank` hands to when `root` sends to all.
template <topology T>
[[nodiscard]] TPX_HD constexpr rank_set children(int rank, int root, int n) {
  rank_set set = 0;
  for (int r = 0; r < n; ++r) { set |= static_cast<rank_set>(T::parent(r, root, n) == rank) << r; }
  return set;
}

/// Whose tree rank `rank` goes through as its k-th of n when everybody is a root of a reduction: in
/// a rotating topology its own comes last, since it waits for all.
template <topology T>
[[nodiscard]] TPX_HD constexpr int reduce_turn(int rank, int k, int n) {
  return T::rotates ? (rank + 1 + k) % n : k;
}

/// The same when everybody is a root of a broadcast: its own comes first.
template <topology T>
[[nodiscard]] TPX_HD constexpr int broadcast_turn(int rank, int k, int n) {
  return T::rotates ? (rank + n - k) % n : k;
}

/// Whether what goes from `source` up to `root` passes through `rank`, which may be either.
template <topology T>
[[nodiscard]] TPX_HD constexpr bool on_path(int rank, int source, int root, int n) {
  for (int r = source; r >= 0; r = T::parent(r, root, n)) {
    if (r == rank) { return true; }
  }
  return false;
}

}  // namespace tpx
