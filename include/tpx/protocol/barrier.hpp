// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/endpoint.hpp>
#include <tpx/protocol/turn.hpp>

#include <string_view>

namespace tpx {

/// The first stage of a barrier: says that this rank has come, as far as that needs no waiting.
template <class Topology>
struct barrier_arrive {
  wires w;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    endpoint const e{group, w};
    e.begin_barrier();
    if constexpr (Topology::flat) {
      e.arrive(e.others());
    } else {
      int const parent = Topology::parent(e.rank(), 0, e.size());
      if (parent >= 0 && children<Topology>(e.rank(), 0, e.size()) == 0) {
        e.arrive(rank_set{1} << parent);
      }
    }
  }
};

/// The second stage: returns once all ranks have come. Through a tree that is not flat, word goes
/// up to rank 0 and down again.
template <class Topology>
struct barrier_wait {
  wires w;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    endpoint const e{group, w};
    if constexpr (Topology::flat) {
      (void)e.meet(e.others());
    } else {
      auto const kids = children<Topology>(e.rank(), 0, e.size());
      int const parent = Topology::parent(e.rank(), 0, e.size());
      if (!e.meet(kids)) { return; }
      if (parent >= 0) {
        if (kids != 0) { e.arrive(rank_set{1} << parent); }
        if (!e.meet(rank_set{1} << parent)) { return; }
      }
      e.arrive(kids);
    }
  }
};

/// A barrier among ranks that all hear of each other: a turn at the cells without data.
struct turn_barrier {
  static constexpr std::string_view name = "turn";
  wires w;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    turn<Group> const t{group, w};
    take_turn(
      t, 0, 0, [] { return 0; }, [](int, bool ok) { return ok; });
  }
};

/// Both stages at once.
template <class Topology>
struct whole_barrier {
  wires w;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    barrier_arrive<Topology>{w}(group);
    barrier_wait<Topology>{w}(group);
  }
};

}  // namespace tpx
