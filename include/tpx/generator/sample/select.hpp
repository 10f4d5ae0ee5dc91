// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/candidates.hpp>

#include <array>

namespace tpx::detail {

/// The largest logits come first, and each weighs 1. The one that reaches the limit is kept.
struct largest_first {
  static constexpr bool counts = true;
  static constexpr bool by_logit = true;
  static constexpr bool passes = true;
  void order(lanes&) const {}
  [[nodiscard]] TPX_HD float order(float x) const { return x; }
};

/// The likeliest come first, and weigh their probability. The one that would pass the limit is not
/// kept.
struct likeliest_first {
  static constexpr bool counts = false;
  static constexpr bool by_logit = true;
  static constexpr bool passes = false;
  void order(lanes&) const {}
  [[nodiscard]] TPX_HD float order(float x) const { return x; }
};

/// Those nearest to a logit come first, and weigh their probability. The one that reaches the limit
/// is kept.
struct nearest_first {
  static constexpr bool counts = false;
  static constexpr bool by_logit = false;
  static constexpr bool passes = true;
  float center;
  /// Logits become minus their distance from it.
  void order(lanes& x) const {
    x -= center;
    absolute(x);
    x = -x;
  }
  [[nodiscard]] TPX_HD float order(float x) const { return x > center ? center - x : x - center; }
};

/// How far the candidates that come first in an order are to be kept for their weights to come to a
/// limit, found without a sort: a histogram over 1/32 nats from the first on says which of its
/// buckets the limit falls into, and four of 256 buckets each over the bits of the few candidates
/// in there say which of them. Those that are equal are kept or dropped together. Exact: the same
/// however the row is cut over ranks.
///
/// Source: exllamav3's fused sampler (two levels over fixed-point logits).
/// Cost    one pass over the candidates, and one over the chunks that have some in the bucket;
///         16 KiB reduced in five reductions.
template <class Order, class R>
class selection {
 public:
  selection(candidates<R>& from, Order const& order)
      : from_{from},
        row_{from.row()},
        order_{order},
        best_{from.best()},
        first_{Order::by_logit ? best_ : 0.0f} {}

  /// Where the `count` first end.
  [[nodiscard]] float end(std::uint64_t count) requires(Order::counts) {
    coarse(bound(count));
    return fine(count - 1);
  }
  /// Where the first ones end that have this part of the whole probability.
  [[nodiscard]] float end(double part) requires(!Order::counts) {
    coarse(last_bucket);
    std::uint64_t total = 0;
    for (auto const w : row_.memory().histogram) { total += w; }
    auto const most = static_cast<std::uint64_t>(part * static_cast<double>(total));
    return fine(Order::passes && most > 0 ? most - 1 : most);
  }

 private:
  static constexpr std::int32_t last_bucket = sampler_memory::buckets - 1;

  void bucket(lanes const& x, int_lanes& of) const {
    lanes const under = (first_ - x) * 32.0f;
    lanes most;
    fill(most, static_cast<float>(last_bucket));
    of = __builtin_convertvector(under < most ? under : most, int_lanes);
  }
  [[nodiscard]] std::int32_t bucket(float x) const {
    return static_cast<std::int32_t>(
      std::min((first_ - x) * 32.0f, static_cast<float>(last_bucket)));
  }

  /// A bucket beyond which no candidate is among the `count` largest, as seen from the chunks'
  /// tops.
  [[nodiscard]] std::int32_t bound(std::uint64_t count) {
    auto const active = row_.active();
    if (count > active.size()) { return last_bucket; }
    auto& tops = row_.memory().histogram;
    std::fill(tops.begin(), tops.end(), 0);
    for (auto const c : active) { ++tops[static_cast<std::size_t>(bucket(top(c)))]; }
    std::size_t b = 0;
    for (std::uint64_t seen = tops[0]; seen < count; seen += tops[++b]) {}
    return static_cast<std::int32_t>(b);
  }

  [[nodiscard]] float top(std::uint32_t c) const { return row_.memory().top[c] * row_.scale(); }

  /// Fills the histogram with what lies in the buckets up to `last`, a chunk at a time: lanes
  /// first, then one by one, so that neither waits for the other.
  void coarse(std::int32_t last) {
    auto* const histogram = row_.memory().histogram.data();
    std::fill_n(histogram, sampler_memory::buckets, 0);
    alignas(64) std::int32_t to[chunk_size];
    alignas(64) std::uint32_t high[chunk_size];
    alignas(64) std::uint32_t low[chunk_size];
    for (auto const c : row_.active()) {
      if (Order::by_logit && bucket(top(c)) > last) { continue; }
      std::size_t n = 0;  // of rows with anything, tokens
      int_lanes differ = {};
      for (std::size_t r = 0; r < chunk_rows; ++r) {
        lanes x;
        row_.load_row(c, r, x);
        lanes y = x;
        order_.order(y);
        int_lanes b;
        bucket(y, b);
        int_lanes const wanted = (x > no_logit) & (b <= last);
        if (!any(wanted)) { continue; }
        fixed_lanes weights;
        if (!Order::counts) { to_mass(x, best_); }
        weigh(x, wanted, weights);
        std::memcpy(to + n, &b, sizeof(b));
        differ |= b != to[0];
        std::memcpy(high + n, &weights.high, sizeof(b));
        std::memcpy(low + n, &weights.low, sizeof(b));
        n += lane_count;
      }
      auto const weight = [&](std::size_t i) { return (std::uint64_t{high[i]} << 20) + low[i]; };
      if (any(differ)) {
        for (std::size_t i = 0; i < n; ++i) { histogram[to[i]] += weight(i); }
      } else if (n > 0) {  // all in one, as ties are: additions to one place wait for each other
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < n; ++i) { sum += weight(i); }
        histogram[to[0]] += sum;
      }
    }
    from_.reduction().sum(std::span{histogram, sampler_memory::buckets});
  }

  /// x holds masses where these are the weights.
  void weigh(lanes& x, int_lanes const& wanted, fixed_lanes& weight) const {
    if constexpr (Order::counts) {
      weight.low -= wanted;  // true is -1
    } else {
      keep_or_zero(x, wanted);
      weight.add(x);
    }
  }

  /// Where the weights pass the limit; just above if what passes it is not kept.
  [[nodiscard]] float fine(std::uint64_t limit) {
    auto const& histogram = row_.memory().histogram;
    std::uint64_t above = 0;
    std::size_t b = 0;
    while (b < histogram.size() && above + histogram[b] <= limit) { above += histogram[b++]; }
    if (b == histogram.size()) { return no_logit; }
    auto const found = gather(static_cast<std::int32_t>(b));
    std::uint32_t key = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      std::array<std::uint64_t, 256> part{};
      for (auto const& m : found) {
        bool const same = shift == 24 || m.key >> (shift + 8) == key >> (shift + 8);
        if (same) { part[m.key >> shift & 255] += m.weight; }
      }
      from_.reduction().sum(part);
      std::uint32_t digit = 255;
      while (above + part[digit] <= limit) { above += part[digit--]; }
      key |= digit << shift;
    }
    float const at = from_order_key(key);
    if (Order::passes || above + fixed_mass(at, best_) <= limit) { return at; }
    return std::nextafter(at, std::numeric_limits<float>::infinity());
  }

  /// The candidates in a bucket.
  [[nodiscard]] std::span<weighed const> gather(std::int32_t from) {
    auto& members = row_.memory().members;
    std::size_t n = 0;
    for (auto const c : row_.active()) {
      if (Order::by_logit && bucket(top(c)) > from) { continue; }
      for (std::size_t r = 0; r < chunk_rows; ++r) {
        lanes x;
        row_.load_row(c, r, x);
        lanes y = x;
        order_.order(y);
        int_lanes in;
        bucket(y, in);
        in = (in == from) & (x > no_logit);
        if (!any(in)) { continue; }
        fixed_lanes weight;
        if (!Order::counts) { to_mass(x, best_); }
        weigh(x, in, weight);
        if (!any(in == 0) && !any(y != y[0])) {
          members[n++] = {order_key(y[0]), weight.total()};
          continue;
        }
        std::uint64_t each[lane_count];
        weight.split(each);
        for (std::size_t i = 0; i < lane_count; ++i) {
          if (in[i] != 0) { members[n++] = {order_key(y[i]), each[i]}; }
        }
      }
    }
    return {members.data(), n};
  }

  candidates<R>& from_;
  logit_row& row_;
  Order order_;
  float best_;
  float first_;
};

/// Where the first ones in an order end, to a limit that is a count or a part of the whole.
template <class R, class Order, class Limit>
[[nodiscard]] float end_of(candidates<R>& c, Order const& order, Limit limit) {
  return selection<Order, R>{c, order}.end(limit);
}

}  // namespace tpx::detail
