// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/protocol/block.hpp>
#include <tpx/split.hpp>

namespace tpx {

/// The matrix that a strided collective moves. Pitches of 0 mean rows without gaps.
struct matrix {
  std::size_t rows = 1;
  std::size_t dim = 1;       // columns a unit of the split, e.g. head_dim
  std::size_t in_pitch = 0;  // elements from row to row
  std::size_t out_pitch = 0;
  std::size_t target_dim = 0;  // columns a unit of gather's target split; 0: as `dim`
};

namespace split {

/// A plan of its own: every rank has `n` columns, in rank order.
struct even {
  std::size_t n;
};

}  // namespace split

namespace detail {

/// Each rank's columns under a split of a plan.
template <class Split, class Plan>
columns cut(Plan const& plan, int ranks, std::size_t dim) {
  columns c{};
  for (int r = 0; r < ranks; ++r) {
    if constexpr (std::is_same_v<Split, split::even>) {
      c.begin[r] = plan.n * static_cast<std::size_t>(r);
      c.end[r] = c.begin[r] + plan.n;
    } else {
      auto const range = plan.template range<Split>(r);
      expects(
        dim == 0 || range.end <= call_signature::max_count / dim,
        [&] {
          return "rank " + std::to_string(r) + " has up to unit " + std::to_string(range.end) +
                 " of " + std::to_string(dim) + " columns each, which are too many";
        },
        "set matrix::dim to the columns of one unit of the split");
      c.begin[r] = range.begin * dim;
      c.end[r] = range.end * dim;
    }
  }
  return c;
}

inline std::size_t width(columns const& c, int ranks) {
  std::size_t most = 0;
  for (int r = 0; r < ranks; ++r) { most = std::max(most, c.end[r]); }
  return most;
}

/// Of columns that several ranks hold, the first rank's copy is named.
inline columns without_copies(columns c, int ranks) {
  std::size_t covered = 0;
  for (int r = 0; r < ranks; ++r) {
    c.begin[r] = std::min(std::max(c.begin[r], covered), c.end[r]);
    covered = std::max(covered, c.end[r]);
  }
  return c;
}

/// Whether every rank has as many columns as the others, in rank order without gaps.
inline bool equal_parts(columns const& c, int ranks) {
  for (int r = 0; r < ranks; ++r) {
    auto const n = c.size(0);
    if (c.size(r) != n || c.begin[r] != n * static_cast<std::size_t>(r)) { return false; }
  }
  return true;
}

/// Whether no rank but `root` has any.
inline bool alone(columns const& c, int root, int ranks) {
  for (int r = 0; r < ranks; ++r) {
    if (r != root && c.size(r) != 0) { return false; }
  }
  return true;
}

inline void expect_rows(collective kind, char const* which, std::size_t have, std::size_t rows,
                        std::size_t cols, std::size_t pitch) {
  if (rows == 0 || cols == 0) { return; }
  expects(pitch >= cols || rows == 1, [&] {
    return std::string{name(kind)} + ": the " + which + "'s rows of " + std::to_string(cols) +
           " elements lie only " + std::to_string(pitch) + " apart";
  });
  bool const fits = have >= cols && (rows == 1 || (have - cols) / pitch >= rows - 1);
  expects(fits, [&] {
    return std::string{name(kind)} + ": the " + which + " has " + std::to_string(have) +
           " elements, too few for " + std::to_string(rows) + " rows of " + std::to_string(cols) +
           " that lie " + std::to_string(pitch) + " apart";
  });
}

/// describe() for a matrix: what the ranks must agree on besides the count goes into `op` as a
/// hash.
template <class T, class Split>
call_signature describe(collective kind, std::size_t rows, columns const& held,
                        columns const& target, int ranks, std::uint16_t op, int root) {
  std::size_t const cols = width(held, ranks);
  bool const countable = cols == 0 || rows <= call_signature::max_count / cols;
  if (rows != 1 || !std::is_same_v<Split, split::even>) {
    std::uint64_t hash = rows * 0x9e3779b97f4a7c15u + op;
    for (int r = 0; r < ranks; ++r) {
      for (std::size_t const v : {held.begin[r], held.end[r], target.begin[r], target.end[r]}) {
        hash = (hash ^ v) * 0x100000001b3u;
      }
    }
    op = static_cast<std::uint16_t>((hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) | 0x8000u);
  }
  return describe<T>(kind, countable ? rows * cols : call_signature::max_count + 1, op, root);
}

}  // namespace detail
}  // namespace tpx
