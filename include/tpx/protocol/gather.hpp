// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/rooted.hpp>

namespace tpx {

/// Moves a matrix from one cut of its columns to another: each rank brings the columns that
/// `source` gives it and ends with those that `target` gives it.
///
/// One rank after the other is the root and takes its columns of every rank, the nearest first;
/// what comes from afar is passed on by the ranks between, so every two ranks' messages keep one
/// order.
template <class Topology, class T>
struct gather_protocol {
  wires w;
  columns source;  // disjoint; where ranks hold copies, one of them is named
  columns target;
  std::size_t rows;
  T const* in;  // (rows, this rank's source columns), rows in_pitch apart
  std::size_t in_pitch;
  std::size_t in_begin;  // the column that `in` begins with; it may hold more than source names
  T* out;                // (rows, this rank's target columns), rows out_pitch apart
  std::size_t out_pitch;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    endpoint const e{group, w};
    for (int root = 0; root < e.size(); ++root) {
      for (int d = 0; d < e.size(); ++d) {
        if (!collect(e, (root + d) % e.size(), root)) { return; }
      }
    }
  }

 private:
  /// Brings the part of `from`'s columns that `root` wants to it.
  template <class Group>
  [[nodiscard]] TPX_HD bool collect(endpoint<Group> const& e, int from, int root) const {
    auto const& group = e.group();
    std::size_t const begin = max(source.begin[from], target.begin[root]);
    std::size_t const end = min(source.end[from], target.end[root]);
    if (begin >= end || !on_path<Topology>(e.rank(), from, root, e.size())) { return true; }
    std::size_t const cols = end - begin;
    block<T> const to{e.rank() == root ? out + (begin - target.begin[root]) : out, cols, out_pitch};
    block<T const> const own{e.rank() == from ? in + (begin - in_begin) : in, cols, in_pitch};
    int const parent = Topology::parent(e.rank(), root, e.size());
    int child = from;  // the rank below this one on the way
    while (e.rank() != from && Topology::parent(child, root, e.size()) != e.rank()) {
      child = Topology::parent(child, root, e.size());
    }
    std::size_t const step = piece_of<T>(group, rows * cols, w.layout.slot_bytes / sizeof(T));
    auto const below = rank_set{1} << child;
    return for_pieces(group, rows * cols, step, [&](std::size_t first, std::size_t some) {
      if (from == root) {
        copy(group, own, to, first, some);
        return true;
      }
      if (e.rank() != from && !e.await(below)) { return false; }
      if (e.rank() == root) {
        unpack(group, e.template in<T>(child), to, first, some);
      } else {
        auto const above = rank_set{1} << parent;
        if (!e.open(above)) { return false; }
        T* const slot = e.template out<T>(parent);
        if (e.rank() == from) {
          pack(group, own, first, some, slot);
        } else {
          pack<Group, T>(group, {e.template in<T>(child), some, some}, 0, some, slot);
        }
        e.send(above);
      }
      if (e.rank() != from) { e.release(below); }
      return true;
    });
  }

  static TPX_HD constexpr std::size_t min(std::size_t a, std::size_t b) { return a < b ? a : b; }
  static TPX_HD constexpr std::size_t max(std::size_t a, std::size_t b) { return a < b ? b : a; }
};

}  // namespace tpx
