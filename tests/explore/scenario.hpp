// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "call.hpp"

#include <tpx/protocol/allreduce.hpp>
#include <tpx/protocol/barrier.hpp>
#include <tpx/protocol/gather.hpp>
#include <tpx/protocol/scatter.hpp>
#include <tpx/topology/all_pairs.hpp>
#include <tpx/topology/ring.hpp>
#include <tpx/topology/tree.hpp>

namespace explore {

inline constexpr std::array flag_kinds{kind::one_shot,  kind::allreduce, kind::reduce_scatter,
                                       kind::allgather, kind::broadcast, kind::gather,
                                       kind::barrier};

/// Draws calls, and works out what they must give: straight from what the collectives promise, on
/// whole matrices, with no piece, slot or message in it.
class planner {
 public:
  planner(generator& random, setting const& where) : random_{random}, where_{where} {}

  call draw(kind what) {
    call c;
    c.what = what;
    c.signature = random_.next();
    c.root = static_cast<int>(random_.below(ranks()));
    c.in_place = random_.below(2) == 0;
    switch (what) {
      case kind::one_shot:
      case kind::allreduce:
        reduce(c);
        break;
      case kind::reduce_scatter:
        reduce_scatter(c);
        break;
      case kind::allgather:
        allgather(c);
        break;
      case kind::broadcast:
        broadcast(c);
        break;
      case kind::gather:
        gather(c);
        break;
      default:
        barrier(c);
    }
    return c;
  }

 private:
  [[nodiscard]] std::size_t ranks() const { return static_cast<std::size_t>(where_.layout.ranks); }

  /// Nothing, a little, or about one to four times `unit`.
  std::size_t size(std::size_t unit) {
    switch (random_.below(8)) {
      case 0:
        return random_.below(3);
      case 1:
        return unit - 1;
      case 2:
        return unit;
      case 3:
        return unit + 1;
      case 4:
        return 2 * unit;
      case 5:
        return 2 * unit + 3;
      case 6:
        return 3 * unit + 1;
      default:
        return 1 + random_.below(4 * unit);
    }
  }

  std::vector<element> fresh(std::size_t n) {
    std::vector<element> values(n);
    for (auto& v : values) { v = static_cast<element>(random_.next()); }
    return values;
  }

  /// The columns of each rank: even or not, sometimes none.
  tpx::columns cut(std::size_t cols) {
    std::vector<std::size_t> at{0, cols};
    for (std::size_t i = 1; i < ranks(); ++i) { at.push_back(random_.below(cols + 1)); }
    if (random_.below(2) == 0) {
      for (std::size_t i = 1; i < ranks(); ++i) { at[i + 1] = cols * i / ranks(); }
    }
    std::sort(at.begin(), at.end());
    tpx::columns c{};
    for (std::size_t r = 0; r < ranks(); ++r) {
      c.begin[r] = at[r];
      c.end[r] = at[r + 1];
    }
    return c;
  }

  void reduce(call& c) {
    c.n = size(c.what == kind::allreduce && random_.below(2) == 0 ? piece * ranks() : piece);
    std::vector<std::uint32_t> sum(c.n);
    for (std::size_t r = 0; r < ranks(); ++r) {
      c.in[r] = fresh(c.n);
      for (std::size_t i = 0; i < c.n; ++i) { sum[i] += static_cast<std::uint32_t>(c.in[r][i]); }
    }
    for (std::size_t r = 0; r < ranks(); ++r) {
      c.out[r] = c.in_place ? c.in[r] : std::vector<element>(c.n, untouched);
      c.want[r].assign(sum.begin(), sum.end());
    }
  }

  void reduce_scatter(call& c) {
    c.rows = 1 + random_.below(3);
    c.n = size(piece);
    c.in_pitch = c.n + random_.below(3);
    c.source = cut(c.n);
    for (std::size_t r = 0; r < ranks(); ++r) { c.in[r] = fresh(c.rows * c.in_pitch); }
    for (std::size_t r = 0; r < ranks(); ++r) {
      for (std::size_t row = 0; row < c.rows; ++row) {
        for (std::size_t col = c.source.begin[r]; col < c.source.end[r]; ++col) {
          std::uint32_t sum = 0;
          for (std::size_t p = 0; p < ranks(); ++p) {
            sum += static_cast<std::uint32_t>(c.in[p][row * c.in_pitch + col]);
          }
          c.want[r].push_back(static_cast<element>(sum));
        }
      }
      c.out[r].assign(c.want[r].size(), untouched);
    }
  }

  void allgather(call& c) {
    c.rows = 1 + random_.below(3);
    c.n = size(piece);
    c.source = cut(c.n);
    c.out_pitch = c.n + random_.below(3);
    std::vector<element> whole = fresh(c.rows * c.out_pitch);
    for (std::size_t r = 0; r < ranks(); ++r) {
      auto const own = c.source.end[r] - c.source.begin[r];
      c.out[r].assign(c.rows * c.out_pitch, untouched);
      c.want[r] = c.out[r];
      for (std::size_t row = 0; row < c.rows; ++row) {
        for (std::size_t col = 0; col < c.n; ++col) {
          c.want[r][row * c.out_pitch + col] = whole[row * c.out_pitch + col];
        }
        for (std::size_t col = 0; col < own; ++col) {
          auto const at = row * c.out_pitch + c.source.begin[r] + col;
          c.in[r].push_back(whole[at]);
          if (c.in_place) { c.out[r][at] = whole[at]; }
        }
      }
    }
    c.in_pitch = 0;  // each rank's own width
  }

  void broadcast(call& c) {
    c.n = size(piece);
    auto const root = static_cast<std::size_t>(c.root);
    for (std::size_t r = 0; r < ranks(); ++r) { c.out[r] = fresh(c.n); }
    for (std::size_t r = 0; r < ranks(); ++r) { c.want[r] = c.out[root]; }
  }

  void gather(call& c) {
    c.rows = 1 + random_.below(3);
    c.n = size(piece);
    c.source = cut(c.n);
    switch (random_.below(3)) {
      case 0:
        c.target.end[c.root] = c.n;
        break;  // all to the root
      case 1:   // all to all
        for (std::size_t r = 0; r < ranks(); ++r) { c.target.end[r] = c.n; }
        break;
      default:
        c.target = cut(c.n);
    }
    std::vector<element> const whole = fresh(c.rows * c.n);
    for (std::size_t r = 0; r < ranks(); ++r) {
      for (std::size_t row = 0; row < c.rows; ++row) {
        for (std::size_t col = 0; col < c.n; ++col) {
          auto const v = whole[row * c.n + col];
          if (c.source.begin[r] <= col && col < c.source.end[r]) { c.in[r].push_back(v); }
          if (c.target.begin[r] <= col && col < c.target.end[r]) { c.want[r].push_back(v); }
        }
      }
      c.out[r].assign(c.want[r].size(), untouched);
    }
  }

  void barrier(call& c) {
    std::size_t const each = static_cast<std::size_t>(where_.layout.channels) * where_.threads;
    c.arrived.assign(ranks() * each, 0);
    for (std::size_t r = 0; r < ranks(); ++r) {
      c.out[r].assign(each, untouched);
      c.want[r].assign(each, static_cast<element>(ranks() * where_.threads));
    }
  }

  generator& random_;
  setting const& where_;
};

/// Carries out a call as one thread of one rank, by the shipped protocols.
template <class Topology, bool Shared>
void carry_out(call& c, std::uint64_t signature, setting const& where, explorer_thread const& me) {
  int const rank = me.rank();
  tpx::wires w{};
  std::copy(std::begin(where.windows), std::end(where.windows), std::begin(w.window));
  w.layout = where.layout;
  w.rank = rank;
  w.signature = signature;
  element* const out = c.out[rank].data();
  element const* const in = c.in[rank].data();
  tpx::Sum const op;
  tpx::no_epilogue const none;
  using sum = tpx::Sum;
  using no = tpx::no_epilogue;
  switch (c.what) {
    case kind::one_shot:
      if constexpr (Topology::flat) {
        tpx::one_shot_allreduce<element, sum, no, Shared>{w,   c.in_place ? out : in, out, c.n, op,
                                                          none}(me);
      }
      break;
    case kind::allreduce:
      if constexpr (Topology::rotates) {
        tpx::scattered_allreduce<Topology, element, sum, no, Shared>{
          w, c.in_place ? out : in, out, c.n, op, none}(me);
      } else {
        tpx::rooted_allreduce<Topology, element, sum, no, Shared>{
          w, c.in_place ? out : in, out, c.n, op, none}(me);
      }
      break;
    case kind::reduce_scatter:
      tpx::reduce_scatter_protocol<Topology, element, sum, no, Shared>{
        w, c.source, c.rows, in, c.in_pitch, out, op, none}(me);
      break;
    case kind::allgather: {
      auto const* const own = c.in_place ? out + c.source.begin[rank] : in;
      auto const pitch = c.in_place ? c.out_pitch : c.source.size(rank);
      tpx::allgather_protocol<Topology, element, Shared>{w,     c.source, c.rows,     own,
                                                         pitch, out,      c.out_pitch}(me);
    } break;
    case kind::broadcast:
      tpx::broadcast_protocol<Topology, element, Shared>{w, out, c.n, c.root}(me);
      break;
    case kind::gather:
      tpx::gather_protocol<Topology, element>{
        w,   c.source,           c.target, c.rows, in, c.source.size(rank), c.source.begin[rank],
        out, c.target.size(rank)}(me);
      break;
    default: {
      auto const place = me.channel() * where.threads + me.thread_rank();
      auto const each = static_cast<std::size_t>(where.layout.channels) * where.threads;
      c.arrived[static_cast<std::size_t>(rank) * each + place] = 1;
      tpx::barrier_arrive<Topology>{w}(me);
      tpx::barrier_wait<Topology>{w}(me);
      if (me.stopped()) { return; }
      element seen = 0;
      for (std::size_t i = 0; i < c.arrived.size(); ++i) {
        if (i % each / where.threads == me.channel()) { seen += c.arrived[i]; }
      }
      out[place] = seen;
    }
  }
}

/// At least five calls in a row on the same windows, at least three of them of kind `what`; world
/// size, threads, channels, sizes, values and the order of steps all follow from the seed.
template <class Topology, bool Shared>
outcome play(scheduler& s, windows& memory, kind what, std::uint64_t seed,
             twist how = twist::none) {
  generator random{seed * 8 + static_cast<std::uint64_t>(what)};
  int const ranks = random.below(16) == 0 ? 8 : 2 + static_cast<int>(random.below(4));
  unsigned const threads = random.below(4) == 0 ? 2 : 1;
  int const channels = random.below(4) == 0 ? 2 : 1;
  setting const where = memory.make(ranks, channels, threads);
  planner plan{random, where};
  std::vector<call> calls;
  std::size_t const count = 5 + random.below(3);
  for (std::size_t i = 0; i < count; ++i) {
    auto next = what;
    if (i % 2 != 0 && how == twist::none) {
      next = flag_kinds[random.below(flag_kinds.size())];
      if (!Topology::flat && next == kind::one_shot) { next = kind::allreduce; }
    }
    calls.push_back(plan.draw(next));
    while (how != twist::none && calls[i].n == 0 && next != kind::barrier) {
      calls[i] = plan.draw(next);  // something must be sent to be noticed
    }
  }
  int const odd =
    how == twist::none ? -1 : static_cast<int>(random.below(static_cast<std::size_t>(ranks)));
  auto const how_to_go_on = random.below(2) == 0 ? strategy::uniform : strategy::pct;

  auto body = [&](explorer_thread const& me) {
    for (std::size_t i = 0; i < calls.size() && !me.stopped(); ++i) {
      if (me.rank() == odd && i == 1 && how == twist::stays_away) { return; }
      bool const differs = me.rank() == odd && i == 1 && how == twist::another_call;
      carry_out<Topology, Shared>(calls[i], calls[i].signature + (differs ? 1 : 0), where, me);
      me.sync();  // as a kernel's end
    }
  };
  outcome result = s.run(where, how_to_go_on, random.next(), body);
  if (result.kind != verdict::good) { return result; }
  for (std::size_t i = 0; i < calls.size(); ++i) {
    auto const differs = calls[i].difference(ranks);
    if (!differs.empty()) {
      result.kind = verdict::wrong;
      result.what =
        "wrong value: call " + std::to_string(i) + " of " + std::to_string(count) + ", " + differs;
      break;
    }
  }
  return result;
}

/// The protocols over slots and flags where everybody keeps the rules, or those that must notice if
/// one rank does not.
inline std::vector<variant> flag_variants(twist how = twist::none) {
  std::vector<variant> v;
  for (auto const what : flag_kinds) {
    bool const all_wait_for_all =
      what == kind::one_shot || what == kind::allreduce || what == kind::barrier;
    if (how != twist::none && !all_wait_for_all) { continue; }
    v.push_back({"AllPairs, pushed", what, play<tpx::AllPairs, false>, how});
    v.push_back({"AllPairs, shared", what, play<tpx::AllPairs, true>, how});
    if (what == kind::one_shot) { continue; }
    v.push_back({"Ring", what, play<tpx::Ring, false>, how});
    v.push_back({"Tree", what, play<tpx::Tree, false>, how});
  }
  return v;
}

}  // namespace explore
