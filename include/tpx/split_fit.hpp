// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/split.hpp>
#include <tpx/split_apportion.hpp>
#include <tpx/split_budget.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <string>

namespace tpx {

/// The ranges of every rank but Kv's, which follow from Q's. Past the last rank they are empty.
struct split_ranges {
  std::array<shard_range, max_ranks> q{};
  std::array<shard_range, max_ranks> id{};
  std::array<shard_range, max_ranks> vc{};
  std::array<shard_range, max_ranks> rs{};

  friend constexpr bool operator==(split_ranges const&, split_ranges const&) = default;
};

namespace detail {

constexpr void check(std::span<device_budget const> budgets) {
  bool any = false;
  for (std::size_t r = 0; r < budgets.size(); ++r) {
    device_budget const& b = budgets[r];
    if (b.memory == 0) { continue; }
    any = true;
    if (!positive(b.read_gbps)) {
      refuse_number(("read_gbps of rank " + std::to_string(r)).c_str(), b.read_gbps,
                    "give its memory's GB/s, or 1 for all; memory = 0 leaves a rank out");
    }
    if (b.link_gbps != 0 && !positive(b.link_gbps)) {
      refuse_number(("link_gbps of rank " + std::to_string(r)).c_str(), b.link_gbps,
                    "give its GB/s to a peer, or 0 if it is no limit");
    }
  }
  if (!any) {
    refuse_split("the budget of every rank has memory 0",
                 "memory 0 leaves a rank out: give at least one rank some bytes");
  }
}

/// Plans kind after kind, the coarsest first: what a coarse kind rounds up on a rank, the finer
/// ones after it leave out there.
class fitter {
 public:
  constexpr fitter(model_shape const& shape, std::span<device_budget const> budgets,
                   split_options const& options)
      : shape_{shape}, options_{options} {
    auto const fixed = shape.replicated_bytes() + static_cast<double>(options.communicator_bytes);
    for (std::size_t r = 0; r < budgets.size(); ++r) {
      speed_[r] = budgets[r].read_gbps;
      slow_[r] = budgets[r].link_gbps > 0 ? 1 / budgets[r].link_gbps : 0;
      auto const memory = static_cast<double>(budgets[r].memory);
      double const room = memory - static_cast<double>(budgets[r].reserve) - fixed;
      left_[r] = memory > 0 && room > 0 ? room : 0;
    }
    if (!(sum(left_) > 0)) {  // nobody has room for what all must hold: share the want evenly
      for (std::size_t r = 0; r < budgets.size(); ++r) {
        left_[r] = static_cast<double>(budgets[r].memory);
      }
      fits_ = false;
    }
    room_ = left_;
  }

  constexpr split_ranges run(bool replicate) {
    auto const tokens = static_cast<double>(options_.step_tokens);
    double const state = tokens * as(shape_.hidden) * 2;  // bytes that one reduction moves
    double const kv = shape_.kv_head_bytes() + as(options_.tokens) * shape_.kv_head_cache_bytes();
    double const attention =
      as(shape_.query_heads) * shape_.q_head_bytes() + as(shape_.kv_heads) * kv;
    double const mlp = as(shape_.intermediate) * shape_.id_column_bytes();
    double const head = as(shape_.vocab) * shape_.vc_column_bytes();
    double const head_held = as(shape_.vocab) * shape_.vc_column_held_bytes();
    double const reduces = as(shape_.layers) * state;

    split_ranges out{};
    unplaced_ = attention + mlp + head_held;
    out.q = lay_out(heads(attention, reduces, kv, replicate), 1, shape_.query_heads);
    out.id = columns({mlp, mlp, reduces, 0}, shape_.intermediate, options_.id_quantum,
                     options_.id_minimum);
    out.vc = columns({head, head_held, 0, tokens * as(shape_.vocab) * 4}, shape_.vocab,
                     options_.vc_quantum, options_.vc_minimum);
    out.rs = columns({state, 0, 0, state}, shape_.hidden, options_.rs_quantum, options_.rs_minimum);
    return out;
  }

  [[nodiscard]] constexpr bool fits() const { return fits_; }

 private:
  /// One kind's bytes in one step, over all ranks and layers.
  struct phase {
    double read;      // weights and cache
    double held;      // of these, what takes memory
    double reduced;   // through every rank's link, whatever its share
    double gathered;  // through the links in proportion to the shares
  };

  static constexpr double as(std::size_t n) { return static_cast<double>(n); }

  [[nodiscard]] constexpr bool short_of_memory() const { return sum(left_) < unplaced_; }

  /// Every rank's share of a kind; its ratios alone mean something.
  [[nodiscard]] constexpr shares fractions(phase const& p) const {
    if (p.held > 0 && short_of_memory()) { return room_; }  // all lack in proportion
    shares const& left = p.held > 0 ? left_ : room_;
    shares start{}, rate{}, cap{};
    for (std::size_t r = 0; r < left.size(); ++r) {
      if (!(left[r] > 0)) { continue; }
      start[r] = p.reduced * slow_[r];
      rate[r] = 1 / (p.read / speed_[r] + p.gathered * slow_[r]);
      cap[r] = p.held > 0 && left[r] < unplaced_ ? left[r] / unplaced_ : 1;
    }
    return water_fill(start, rate, cap);
  }

  /// How many units of `bytes` each rank has room for.
  [[nodiscard]] constexpr counts room(double bytes, double fixed = 0) const {
    counts cap = uncapped;
    if (short_of_memory()) { return cap; }
    for (std::size_t r = 0; r < left_.size(); ++r) {
      double const bytes_left = left_[r] > fixed ? left_[r] - fixed : 0;
      if (bytes_left < bytes * 0x1p40) { cap[r] = static_cast<std::size_t>(bytes_left / bytes); }
    }
    return cap;
  }

  constexpr void take(std::size_t r, double bytes) {
    if (bytes > left_[r] * (1 + 1e-12)) { fits_ = false; }
    left_[r] = bytes < left_[r] ? left_[r] - bytes : 0;
  }

  constexpr std::array<shard_range, max_ranks> columns(phase const& p, std::size_t extent,
                                                       std::size_t quantum, std::size_t minimum) {
    std::size_t const units = extent / quantum + (extent % quantum != 0 ? 1 : 0);
    double const bytes = p.held / as(extent) * as(quantum);
    counts const got = apportion(units, fractions(p), room(bytes), minimum);
    auto const ranges = lay_out(got, quantum, extent);
    for (std::size_t r = 0; r < got.size(); ++r) {
      take(r, as(ranges[r].size()) * p.held / as(extent));
    }
    unplaced_ -= p.held;
    return ranges;
  }

  /// Query heads of every rank.
  constexpr counts heads(double attention, double reduces, double kv, bool replicate) {
    phase const p{attention, attention, reduces, 0};
    shares const ideal = fractions(p);
    std::size_t const group = shape_.group();
    double const q = shape_.q_head_bytes();
    auto const bytes = [&](std::size_t n) {
      return n == 0 ? 0 : as(n) * q + as(n < group ? 1 : n / group) * kv;
    };
    auto const slowest = [&](counts const& n) {
      double worst = 0;
      for (std::size_t r = 0; r < n.size(); ++r) {
        double const t = n[r] == 0 ? 0 : bytes(n[r]) / speed_[r] + p.reduced * slow_[r];
        worst = t > worst ? t : worst;
      }
      return worst;
    };
    counts best = apportion(shape_.kv_heads, ideal, room(as(group) * q + kv), 1);
    for (std::size_t& n : best) { n *= group; }
    if (replicate) {
      counts const shared = shared_heads(ideal, room(q, kv));
      if (sum(shared) > 0 && slowest(shared) <= slowest(best) * (1 + 1e-9)) { best = shared; }
    }
    for (std::size_t r = 0; r < best.size(); ++r) { take(r, bytes(best[r])); }
    unplaced_ -= attention;
    return best;
  }

  /// Query heads where every rank has one key/value head, or part of one's group: neighbours share
  /// a head. None where there are no more ranks than heads, or no groups to part.
  [[nodiscard]] constexpr counts shared_heads(shares weight, counts const& cap) const {
    std::size_t ranks = 0;
    for (double const w : weight) { ranks += w > 0 ? 1 : 0; }
    for (; ranks > shape_.query_heads; --ranks) {
      std::size_t weakest = weight.size();
      for (std::size_t r = 0; r < weight.size(); ++r) {
        bool const lower = weakest == weight.size() || weight[r] <= weight[weakest];
        if (weight[r] > 0 && lower) { weakest = r; }
      }
      weight[weakest] = 0;
    }
    if (ranks <= shape_.kv_heads || shape_.group() == 1) { return {}; }

    // A rank goes to the head in which the middle of its weight lies, if every head keeps at least
    // one rank and at most as many as it has query heads.
    counts got{};
    double const total = sum(weight);
    double before = 0;
    std::size_t rest = ranks, r = 0;
    for (std::size_t head = 0; head < shape_.kv_heads; ++head) {
      std::size_t const heads_after = shape_.kv_heads - head - 1;
      counts mine{};
      shares ideal{};
      std::size_t members = 0;
      double block = 0;
      for (; r < weight.size() && rest > 0; ++r) {
        if (!(weight[r] > 0)) { continue; }
        double const middle = (before + weight[r] / 2) / total * as(shape_.kv_heads);
        bool const must = members == 0 || rest > heads_after * shape_.group();
        bool const may = members < shape_.group() && rest > heads_after;
        if (!must && !(may && middle < as(head + 1))) { break; }
        mine[r] = 1;
        ideal[r] = weight[r];
        block += weight[r];
        before += weight[r];
        ++members;
        --rest;
      }
      for (double& share : ideal) { share *= as(shape_.group()) / block; }
      award(mine, shape_.group(), ideal, cap);
      for (std::size_t i = 0; i < got.size(); ++i) { got[i] += mine[i]; }
    }
    return got;
  }

  model_shape shape_;
  split_options options_;
  shares speed_{};
  shares slow_{};  // seconds a byte of the link
  shares room_{};  // bytes for shards
  shares left_{};  // of these, what is not given to a kind yet
  double unplaced_ = 0;
  bool fits_ = true;
};

constexpr split_ranges fit_ranges(model_shape const& shape, std::span<device_budget const> budgets,
                                  split_options const& options) {
  fitter first{shape, budgets, options};
  split_ranges const ranges = first.run(true);
  return first.fits() ? ranges : fitter{shape, budgets, options}.run(false);
}

}  // namespace detail
}  // namespace tpx
