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

  /// A tile of values of type W in registers.
  template <class W, class Words, class Op>
  TPX_HD void add(Words const& from, Op const& op) {
    TPX_UNROLL
    for (unsigned j = 0; j < Tile; ++j) {
      auto const x = static_cast<A>(detail::get<W>(from, j));
      value[j] = empty ? x : op(value[j], x);
    }
  }
};

/// Folds this rank's elements [first, first + n) with the messages, of values of type W, that
/// await() saw from the ranks of `from`, in ascending order of rank, and hands each tile's sums to
/// store(index in the message, count, sums), or a packet's, a partial, to store.packed(). What a
/// packet has beyond its count is folded from what lies there and means nothing.
template <class W, class Group, class T, class Op, class Store>
TPX_HD void fold(endpoint<Group> const& e, block<T const> own, std::size_t first, std::size_t n,
                 rank_set from, lane l, Op const& op, Store&& store) {
  using A = accumulate_t<T>;
  auto const for_givers = [&](auto& sum, auto&& mine, auto&& theirs) {
    for (int r = 0; r < e.size(); ++r) {
      if (r == e.rank()) {
        mine();
      } else if ((from >> r & 1u) != 0) {
        theirs(e.template in<W>(r, l));
      } else {
        continue;
      }
      sum.empty = false;
    }
  };
  for_tiles<T>(e.group(), n, [&](std::size_t i, std::size_t count) {
    if constexpr (by_packets<Group, T>) {
      using read = words<per_packet<T> * sizeof(W)>;
      partial<A, per_packet<T>> sum{};
      for_givers(
        sum, [&] { sum.template add<T>(read_packet(own, first + i, count), op); },
        [&](W const* in) { sum.template add<W>(*reinterpret_cast<read const*>(in + i), op); });
      store.packed(i, count, sum);
    } else {
      partial<A, Group::tile> sum;
      for_givers(
        sum,
        [&] {
          own.runs(first + i, count, [&](T const* run, std::size_t offset, std::size_t length) {
            sum.add(run, offset, length, op);
          });
        },
        [&](W const* in) { sum.add(in + i, 0, count, op); });
      store(i, count, sum.value);
    }
  });
}

/// A store for fold() that hands sums on as values of type W.
template <class W>
struct pass_on {
  W* slot;

  template <class A>
  TPX_HD void operator()(std::size_t i, std::size_t count, A const* sums) const {
    for (std::size_t j = 0; j < count; ++j) { slot[i + j] = static_cast<W>(sums[j]); }
  }
  template <class A, unsigned Many>
  TPX_HD void packed(std::size_t i, std::size_t, partial<A, Many> const& sums) const {
    words<Many * sizeof(W)> p{};
    TPX_UNROLL
    for (unsigned j = 0; j < Many; ++j) { detail::put(p, j, static_cast<W>(sums.value[j])); }
    *reinterpret_cast<words<Many * sizeof(W)>*>(slot + i) = p;
  }
};

/// A store for fold() that finishes sums: applies the epilogue, rounds, and writes to a block.
/// `index` is the epilogue's index of the block's element `first`.
template <class T, class Epilogue>
struct finish {
  block<T> to;
  std::size_t first;
  std::size_t index;
  Epilogue epilogue;

  TPX_HD void packed(std::size_t i, std::size_t count,
                     partial<accumulate_t<T>, per_packet<T>> const& sums) const {
    packet p{};
    TPX_UNROLL
    for (unsigned j = 0; j < per_packet<T>; ++j) {
      if (j < count) { detail::put(p, j, static_cast<T>(epilogue(sums.value[j], index + i + j))); }
    }
    write_packet(to, first + i, count, p);
  }
  TPX_HD void operator()(std::size_t i, std::size_t count, accumulate_t<T> const* sums) const {
    to.runs(first + i, count, [&](T* run, std::size_t offset, std::size_t length) {
      for (std::size_t j = 0; j < length; ++j) {
        run[j] = static_cast<T>(epilogue(sums[offset + j], index + i + offset + j));
      }
    });
  }
};

}  // namespace tpx
