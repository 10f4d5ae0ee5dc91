// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/rooted.hpp>

namespace tpx {

/// Every rank ends with the sum of its own columns. All ranks are roots at once, a piece of each
/// rank's columns a round, so that no rank runs ahead of its neighbours' two slots.
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
    int const ranks = e.size();
    std::size_t const step = tree::template capacity<T>(w.layout);
    std::size_t most = 0;
    for (int r = 0; r < ranks; ++r) { most = cut.size(r) > most ? cut.size(r) : most; }
    for (std::size_t first = group.channel() * step; first < rows * most;
         first += group.channels() * step) {
      for (int k = 0; k < ranks; ++k) {
        int const root = reduce_turn<Topology>(e.rank(), k, ranks);
        std::size_t const total = rows * cut.size(root);
        if (first >= total) { continue; }
        std::size_t const some = total - first < step ? total - first : step;
        std::size_t const width = cut.size(e.rank());
        if (!tree{e, root}.reduce(
              cut.of(root, in, in_pitch), first, some, op,
              finish<T, Epilogue>{{out, width, width}, first, first, epilogue})) {
          return;
        }
      }
    }
  }
};

/// Every rank ends with all ranks' columns; the same rounds.
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
    int const ranks = e.size();
    std::size_t const step = tree::template capacity<T>(w.layout);
    std::size_t most = 0;
    for (int r = 0; r < ranks; ++r) { most = cut.size(r) > most ? cut.size(r) : most; }
    for (std::size_t first = group.channel() * step; first < rows * most;
         first += group.channels() * step) {
      for (int k = 0; k < ranks; ++k) {
        int const root = broadcast_turn<Topology>(e.rank(), k, ranks);
        std::size_t const total = rows * cut.size(root);
        if (first >= total) { continue; }
        std::size_t const some = total - first < step ? total - first : step;
        if (!tree{e, root}.broadcast(block<T const>{in, cut.size(e.rank()), in_pitch},
                                     cut.of(root, out, out_pitch), first, some)) {
          return;
        }
      }
    }
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
    std::size_t const step = tree::template capacity<T>(w.layout);
    for (std::size_t first = group.channel() * step; first < n; first += group.channels() * step) {
      if (!tree{e, root}.broadcast(block<T const>{x, n, n}, block<T>{x, n, n}, first,
                                   n - first < step ? n - first : step)) {
        return;
      }
    }
  }
};

}  // namespace tpx
