// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/op.hpp>
#include <tpx/protocol/block.hpp>
#include <tpx/protocol/endpoint.hpp>

namespace tpx {

/// Up to `tile` values on their way through a reduction.
template <class A, unsigned Tile>
struct partial {
  A value[Tile];
  bool empty = true;

  template <class T, class Op>
  TPX_HD void add(T const* from, std::size_t offset, std::size_t count, Op const& op) {
    if (empty) {
      for (std::size_t j = 0; j < count; ++j) { value[offset + j] = static_cast<A>(from[j]); }
    } else {
      for (std::size_t j = 0; j < count; ++j) {
        value[offset + j] = op(value[offset + j], static_cast<A>(from[j]));
      }
    }
  }
};

/// Folds this rank's elements [first, first + n) with the messages, of values of type W, that
/// await() saw from the ranks of `from`, in ascending order of rank, and hands each tile's sums to
/// store(index in the message, count, sums).
template <class W, class Group, class T, class Op, class Store>
TPX_HD void fold(endpoint<Group> const& e, block<T const> own, std::size_t first, std::size_t n,
                 rank_set from, lane l, Op const& op, Store&& store) {
  using A = accumulate_t<T>;
  for_tiles(e.group(), n, [&](std::size_t i, std::size_t count) {
    partial<A, Group::tile> sum;
    for (int r = 0; r < e.size(); ++r) {
      if (r == e.rank()) {
        own.runs(first + i, count, [&](T const* run, std::size_t offset, std::size_t length) {
          sum.add(run, offset, length, op);
        });
        sum.empty = false;
      } else if ((from >> r & 1u) != 0) {
        sum.add(e.template in<W>(r, l) + i, 0, count, op);
        sum.empty = false;
      }
    }
    store(i, count, sum.value);
  });
}

/// A store for fold() that finishes sums: applies the epilogue, rounds, and writes to a block.
/// `index` is the epilogue's index of the block's element `first`.
template <class T, class Epilogue>
struct finish {
  block<T> to;
  std::size_t first;
  std::size_t index;
  Epilogue epilogue;

  TPX_HD void operator()(std::size_t i, std::size_t count, accumulate_t<T> const* sums) const {
    to.runs(first + i, count, [&](T* run, std::size_t offset, std::size_t length) {
      for (std::size_t j = 0; j < length; ++j) {
        run[j] = static_cast<T>(epilogue(sums[offset + j], index + i + offset + j));
      }
    });
  }
};

}  // namespace tpx
