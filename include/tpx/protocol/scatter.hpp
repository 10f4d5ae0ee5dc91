// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/rooted.hpp>

namespace tpx {

/// Every rank is a root at once: calls f(root, first, count) -> bool for a piece of each rank's
/// columns a round, in the order that turn(rank, k, ranks) gives, so that no rank runs ahead of its
/// neighbours' two slots. False as soon as f gives it.
template <class T, class Group, class Turn, class F>
TPX_HD bool for_rounds(endpoint<Group> const& e, columns const& cut, std::size_t rows,
                       std::size_t slot, Turn&& turn, F&& f) {
  std::size_t most = 0;
  for (int r = 0; r < e.size(); ++r) { most = cut.size(r) > most ? cut.size(r) : most; }
  std::size_t const step = piece_of<T>(e.group(), rows * most, slot);
  return for_pieces(e.group(), rows * most, step, [&](std::size_t first, std::size_t) {
    for (int k = 0; k < e.size(); ++k) {
      int const root = turn(e.rank(), k, e.size());
      std::size_t const total = rows * cut.size(root);
      if (first >= total) { continue; }
      if (!f(root, first, total - first < step ? total - first : step)) { return false; }
    }
    return true;
  });
}

/// Every rank ends with the sum of its own columns.
template <class Topology, class T, class Op, class Epilogue, bool Shared>
struct reduce_scatter_protocol {
  wires w;
  columns cut;  // by rank
  std::size_t rows;
  T const* in;  // (rows, all columns), rows in_pitch apart
  std::size_t in_pitch;
  T* out;  // (rows, this rank's columns), without gaps
  Op op;
  Epilogue epilogue;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    using tree = rooted<Group, Topology, Shared>;
    endpoint const e{group, w};
    std::size_t const own = cut.size(e.rank());
    for_rounds<T>(
      e, cut, rows, tree::template capacity<T>(w.layout),
      [](int rank, int k, int n) { return reduce_turn<Topology>(rank, k, n); },
      [&](int root, std::size_t first, std::size_t some) {
        return tree{e, root}.reduce(cut.of(root, in, in_pitch), first, some, op,
                                    finish<T, Epilogue>{{out, own, own}, first, first, epilogue});
      });
  }
};

/// Every rank ends with all ranks' columns.
template <class Topology, class T, bool Shared>
struct allgather_protocol {
  wires w;
  columns cut;  // by rank
  std::size_t rows;
  T const* in;  // (rows, this rank's columns), rows in_pitch apart; may lie in `out`
  std::size_t in_pitch;
  T* out;  // (rows, all columns), rows out_pitch apart
  std::size_t out_pitch;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    using tree = rooted<Group, Topology, Shared>;
    endpoint const e{group, w};
    for_rounds<T>(
      e, cut, rows, tree::template capacity<T>(w.layout),
      [](int rank, int k, int n) { return broadcast_turn<Topology>(rank, k, n); },
      [&](int root, std::size_t first, std::size_t some) {
        return tree{e, root}.broadcast(block<T const>{in, cut.size(e.rank()), in_pitch},
                                       cut.of(root, out, out_pitch), first, some);
      });
  }
};

/// The root's values reach every rank, a slot at a time.
template <class Topology, class T, bool Shared>
struct broadcast_protocol {
  wires w;
  T* x;  // (n)
  std::size_t n;
  int root;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    using tree = rooted<Group, Topology, Shared>;
    endpoint const e{group, w};
    for_pieces(
      group, n, piece_of<T>(group, n, tree::template capacity<T>(w.layout)),
      [&](std::size_t first, std::size_t some) {
        return tree{e, root}.broadcast(block<T const>{x, n, n}, block<T>{x, n, n}, first, some);
      });
  }
};

}  // namespace tpx
