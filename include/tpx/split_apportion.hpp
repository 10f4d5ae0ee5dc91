// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/split.hpp>

#include <array>
#include <cstddef>
#include <limits>

namespace tpx::detail {

using shares = std::array<double, max_ranks>;       // one a rank; what is past the world is 0
using counts = std::array<std::size_t, max_ranks>;  // the same

template <class T>
constexpr T sum(std::array<T, max_ranks> const& values) {
  T total{};
  for (T const value : values) { total += value; }
  return total;
}

/// Cuts work of size 1 so that its slowest rank is as fast as can be.
///
/// Rank r finishes x of it at `start[r] + x / rate[r]`, and can take `cap[r]` at most; a rank whose
/// cap is 0 gets nothing. The answer is x_r = min((t - start)·rate, cap), 0 at least, at the one
/// time t where they add up to 1. Where the caps add up to less, it is the caps in proportion.
constexpr shares water_fill(shares const& start, shares const& rate, shares const& cap) {
  double const room = sum(cap);
  shares x = cap;
  if (room > 1) {
    auto const full_at = [&](std::size_t r) { return start[r] + cap[r] / rate[r]; };
    auto const level = [&](double t) {
      shares at{};
      for (std::size_t r = 0; r < at.size(); ++r) {
        if (cap[r] == 0 || t <= start[r]) { continue; }
        at[r] = t >= full_at(r) ? cap[r] : (t - start[r]) * rate[r];
      }
      return at;
    };
    // The amount is linear between the times where a rank begins or is full.
    double t = -1;
    for (std::size_t r = 0; r < cap.size(); ++r) {
      if (cap[r] == 0) { continue; }
      for (double const knee : {start[r], full_at(r)}) {
        if (knee > t && sum(level(knee)) <= 1) { t = knee; }
      }
    }
    double slope = 0;
    for (std::size_t r = 0; r < cap.size(); ++r) {
      if (cap[r] > 0 && start[r] <= t && t < full_at(r)) { slope += rate[r]; }
    }
    x = level(slope > 0 ? t + (1 - sum(level(t))) / slope : t);
  }
  double const total = sum(x);
  for (double& share : x) { share = total > 0 ? share / total : 0; }
  return x;
}

/// Of the ranks below their ideal and their cap, the one that is done first with one more unit, the
/// lowest of equals; then of those below their cap; max_ranks if there is none.
constexpr std::size_t soonest(counts const& got, shares const& ideal, counts const& cap) {
  for (bool const below_ideal : {true, false}) {
    std::size_t best = got.size();
    double first = 0;
    for (std::size_t r = 0; r < got.size(); ++r) {
      auto const has = static_cast<double>(got[r]);
      if (!(ideal[r] > 0) || got[r] >= cap[r] || (below_ideal && has >= ideal[r])) { continue; }
      double const done = (has + 1) / ideal[r];
      if (best == got.size() || done < first) { best = r, first = done; }
    }
    if (best < got.size()) { return best; }
  }
  return got.size();
}

inline constexpr counts uncapped = [] {
  counts cap{};
  for (std::size_t& c : cap) { c = std::numeric_limits<std::size_t>::max(); }
  return cap;
}();

/// Gives single units to the soonest until `units` are given; nobody more than `cap`, unless all
/// are full. `ideal` is > 0 for one rank at least.
constexpr void award(counts& got, std::size_t units, shares const& ideal, counts const& cap) {
  for (std::size_t left = units - sum(got); left > 0; --left) {
    std::size_t r = soonest(got, ideal, cap);
    if (r == got.size()) { r = soonest(got, ideal, uncapped); }
    ++got[r];
  }
}

/// Whether ranks with a weight, leaving out one, have room for all units.
constexpr bool room_without(std::size_t out, std::size_t units, shares const& weight,
                            counts const& cap) {
  std::size_t missing = units;
  for (std::size_t r = 0; r < weight.size(); ++r) {
    if (r != out && weight[r] > 0) { missing -= cap[r] < missing ? cap[r] : missing; }
  }
  return missing == 0;
}

/// Whole units in proportion to `weight`: the whole part of its ideal for every rank, and one more
/// for those that are done first with it, so that the slowest is as early as the quota allows.
/// Every rank is less than one unit from its ideal, unless `cap` or `minimum` forbids.
///
/// Largest remainder (Hamilton's method) gives the odd units by the absolute remainder instead, and
/// can so hand the slowest rank a unit that all others wait for.
///
/// Where a rank would get some units but fewer than `minimum`, the weakest rank gets none and the
/// others share anew, as long as they have room for all. Where the caps leave too little room for
/// all units they are ignored. Nobody gets anything if no weight is > 0.
constexpr counts apportion(std::size_t units, shares weight, counts cap, std::size_t minimum) {
  if (!room_without(cap.size(), units, weight, cap)) { cap = uncapped; }
  for (;;) {
    double const total = sum(weight);
    if (!(total > 0)) { return {}; }
    shares ideal{};
    counts got{};
    std::size_t weakest = weight.size();
    for (std::size_t r = 0; r < weight.size(); ++r) {
      if (!(weight[r] > 0)) { continue; }
      ideal[r] = static_cast<double>(units) * weight[r] / total;
      double const nearest = static_cast<double>(static_cast<std::size_t>(ideal[r] + 0.5));
      double const off = ideal[r] - nearest;
      if (off < 1e-12 * ideal[r] && -off < 1e-12 * ideal[r]) { ideal[r] = nearest; }  // rounding
      auto const whole = static_cast<std::size_t>(ideal[r]);
      got[r] = whole < cap[r] ? whole : cap[r];
      if (weakest == weight.size() || weight[r] <= weight[weakest]) { weakest = r; }
    }
    award(got, units, ideal, cap);
    bool small = false;
    for (std::size_t const n : got) { small = small || (n > 0 && n < minimum && n < units); }
    if (!small || !room_without(weakest, units, weight, cap)) { return got; }
    weight[weakest] = 0;
  }
}

/// Neighbouring ranges of `got[r]` quanta each; the last quantum of the axis may be short.
constexpr std::array<shard_range, max_ranks> lay_out(counts const& got, std::size_t quantum,
                                                     std::size_t extent) {
  std::array<shard_range, max_ranks> ranges{};
  std::size_t at = 0;
  for (std::size_t r = 0; r < got.size(); ++r) {
    std::size_t const end = at + got[r] * quantum;
    ranges[r] = {at < extent ? at : extent, end < extent ? end : extent};
    at = end;
  }
  return ranges;
}

}  // namespace tpx::detail
