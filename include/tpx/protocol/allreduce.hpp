// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/rooted.hpp>

namespace tpx {

/// Every rank shows all others its values and folds everybody's itself: one hop.
template <class T, class Op, class Epilogue, bool Shared>
struct one_shot_allreduce {
  wires w;
  T const* in;  // (n)
  T* out;       // (n), may be `in`
  std::size_t n;
  Op op;
  Epilogue epilogue;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    endpoint const e{group, w};
    constexpr lane l = Shared ? lane::all : lane::pair;
    std::size_t const step = piece_of<T>(group, n, w.layout.slot_bytes / sizeof(T));
    block<T const> const own{in, n, n};
    for_pieces(group, n, step, [&](std::size_t first, std::size_t some) {
      if (!e.open(e.others(), l)) { return false; }
      for (int r = 0; r < e.size(); ++r) {
        if (r == e.rank()) { continue; }
        pack(group, own, first, some, e.template out<T>(r, l));
        if (Shared) { break; }
      }
      e.send(e.others(), l);
      if (!e.await(e.others(), l)) { return false; }
      fold<T>(e, own, first, some, e.others(), l, op,
              finish<T, Epilogue>{{out, n, n}, first, first, epilogue});
      e.release(e.others(), l);
      return true;
    });
  }
};

/// Each rank folds a share of every piece and hands it to all: a reduce-scatter and an all-gather
/// of one round a piece. AllPairs: two hops, in rank order. Ring: 2(n-1) hops.
template <class Topology, class T, class Op, class Epilogue, bool Shared>
struct scattered_allreduce {
  wires w;
  T const* in;  // (n)
  T* out;       // (n), may be `in`
  std::size_t n;
  Op op;
  Epilogue epilogue;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    using tree = rooted<Group, Topology, Shared>;
    endpoint const e{group, w};
    int const ranks = e.size();
    auto const ways = static_cast<std::size_t>(ranks);
    std::size_t const step =
      piece_of<T>(group, n, tree::template capacity<T>(w.layout) * ways, ways);
    for_pieces(group, n, step, [&](std::size_t first, std::size_t some) {
      auto const share = columns::even(some, ranks);
      for (int k = 0; k < ranks; ++k) {
        int const root = reduce_turn<Topology>(e.rank(), k, ranks);
        std::size_t const at = first + share.begin[root];
        bool const any = share.size(root) != 0;
        if (any && !tree{e, root}.reduce(block<T const>{in, n, n}, at, share.size(root), op,
                                         finish<T, Epilogue>{{out, n, n}, at, at, epilogue})) {
          return false;
        }
      }
      for (int k = 0; k < ranks; ++k) {
        int const root = broadcast_turn<Topology>(e.rank(), k, ranks);
        bool const any = share.size(root) != 0;
        if (any && !tree{e, root}.broadcast(block<T const>{out, n, n}, block<T>{out, n, n},
                                            first + share.begin[root], share.size(root))) {
          return false;
        }
      }
      return true;
    });
  }
};

/// Pieces go up to rank 0 and down again; a piece comes down while later ones go up.
///
/// No wait is in a circle: give `up` of piece k the time k and `down` of piece k the time k + lag +
/// 1/2. Then each step waits only for steps of earlier time, or of the same time nearer to where
/// the piece comes from.
template <class Topology, class T, class Op, class Epilogue, bool Shared>
struct rooted_allreduce {
  wires w;
  T const* in;  // (n)
  T* out;       // (n), may be `in`
  std::size_t n;
  Op op;
  Epilogue epilogue;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    using tree = rooted<Group, Topology, Shared>;
    endpoint const e{group, w};
    tree const t{e, 0};
    std::size_t const step = piece_of<T>(group, n, tree::template capacity<T>(w.layout));
    std::size_t const pieces = (n + step - 1) / step;
    std::size_t const stride = group.channels();
    std::size_t lag =
      0;  // the depth of the tree: then the first piece is back when it is asked for
    for (int r = e.size() - 1; r > 0; r = Topology::parent(r, 0, e.size())) { lag += stride; }
    for (std::size_t k = group.channel(); k < pieces + lag; k += stride) {
      if (k < pieces) {
        std::size_t const first = k * step;
        if (!t.reduce(block<T const>{in, n, n}, first, n - first < step ? n - first : step, op,
                      finish<T, Epilogue>{{out, n, n}, first, first, epilogue})) {
          return;
        }
      }
      if (k >= lag) {
        std::size_t const first = (k - lag) * step;
        if (!t.broadcast(block<T const>{out, n, n}, block<T>{out, n, n}, first,
                         n - first < step ? n - first : step)) {
          return;
        }
      }
    }
  }
};

}  // namespace tpx
