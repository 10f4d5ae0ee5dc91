// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/fold.hpp>

namespace tpx {

/// The two halves of every collective that has a root: down the root's tree and up it. One message,
/// of at most a slot, a call; every rank calls it for the same root. Shared: whether a flat
/// topology's root writes once for all (lane::all) or once for each.
template <class Group, class Topology, bool Shared>
struct rooted {
  endpoint<Group> const& e;
  int root;

  static constexpr lane down = Shared && Topology::flat ? lane::all : lane::pair;

  /// What travels up: partial sums in full precision; plain values where nobody passes sums on.
  template <class T>
  using wire_t = std::conditional_t<Topology::flat, T, accumulate_t<T>>;

  /// Elements of T that one message holds, up or down.
  template <class T>
  [[nodiscard]] TPX_HD static constexpr std::size_t capacity(window_layout const& layout) {
    return layout.slot_bytes / sizeof(accumulate_t<T>);
  }

  [[nodiscard]] TPX_HD rank_set kids() const {
    return children<Topology>(e.rank(), root, e.size());
  }
  [[nodiscard]] TPX_HD int up() const { return Topology::parent(e.rank(), root, e.size()); }

  /// The root's elements [first, first + n) of `x` reach the same place on every rank; `in` is
  /// read on the root alone.
  template <class T>
  [[nodiscard]] TPX_HD bool broadcast(block<T const> in, block<T> x, std::size_t first,
                                      std::size_t n) const {
    auto const to = kids();
    int const parent = up();
    if (parent < 0) {
      if (!give<T>(to, [&](T* slot) { pack(e.group(), in, first, n, slot); })) { return false; }
      if (in.data != x.data) { copy(e.group(), in, x, first, n); }
      return true;
    }
    auto const from = rank_set{1} << parent;
    if (!e.await(from, down)) { return false; }
    auto const* const message = e.template in<T>(parent, down);
    if (!give<T>(to, [&](T* slot) { pack<Group, T>(e.group(), {message, n, n}, 0, n, slot); })) {
      return false;
    }
    unpack(e.group(), message, x, first, n);
    e.release(from, down);
    return true;
  }

  /// Every rank's elements [first, first + n) of `own` are folded into `done`, on the root alone.
  /// Each rank folds in ascending order of rank.
  template <class T, class Op, class Done>
  [[nodiscard]] TPX_HD bool reduce(block<T const> own, std::size_t first, std::size_t n,
                                   Op const& op, Done const& done) const {
    using W = wire_t<T>;
    auto const from = kids();
    if (from != 0 && !e.await(from)) { return false; }
    int const parent = up();
    if (parent < 0) {
      fold<W>(e, own, first, n, from, lane::pair, op, done);
    } else {
      auto const to = rank_set{1} << parent;
      if (!e.open(to)) { return false; }
      W* const slot = e.template out<W>(parent);
      fold<W>(e, own, first, n, from, lane::pair, op, pass_on<W>{slot});
      e.send(to);
    }
    if (from != 0) { e.release(from); }
    return true;
  }

 private:
  /// Fills and sends a slot to each rank of `to`.
  template <class T, class Fill>
  [[nodiscard]] TPX_HD bool give(rank_set to, Fill&& fill) const {
    if (to == 0) { return true; }
    if (!e.open(to, down)) { return false; }
    for (int r = 0; r < e.size(); ++r) {
      if ((to >> r & 1u) != 0) {
        fill(e.template out<T>(r, down));
        if (down == lane::all) { break; }
      }
    }
    e.send(to, down);
    return true;
  }
};

}  // namespace tpx
