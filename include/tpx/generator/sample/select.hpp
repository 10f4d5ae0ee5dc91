// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/candidates.hpp>

#include <array>

namespace tpx::detail {

/// Every candidate weighs 1.
struct by_count {
  static constexpr bool counts = true;
};
/// A candidate weighs its unnormalised probability in units of 2^-40.
struct by_mass {
  static constexpr bool counts = false;
};

/// Down to which logit the largest ones are to be kept so that their weights come to a limit, found
/// without a sort: a histogram over 1/32 nats under the best says which of its buckets the limit falls into,
/// and four of 256 buckets each over the bits of the few logits in there say which logit. Logits
/// that are equal are kept or dropped together. Exact: the same however the row is cut over ranks.
///
/// Source: exllamav3's fused sampler (two levels over fixed-point logits).
/// Cost    one pass over the candidates, and one over the chunks that have some in the bucket;
///         16 KiB reduced in five reductions.
template <class Weight, class Reduction>
class selection {
 public:
  selection(candidates<Reduction>& from) : from_{from}, row_{from.row()}, best_{from.best()} {}

  /// The logit of the `count`th largest.
  [[nodiscard]] float floor(std::uint64_t count) requires(Weight::counts) {
    coarse(bound(count));
    return fine(count - 1);
  }
  /// The lowest logit that together with all larger ones has at most this part of the whole mass.
  [[nodiscard]] float floor(double part) requires(!Weight::counts) {
    coarse(last_bucket);
    std::uint64_t total = 0;
    for (auto const w : row_.memory().histogram) { total += w; }
    return fine(static_cast<std::uint64_t>(part * static_cast<double>(total)));
  }

 private:
  static constexpr std::int32_t last_bucket = sampler_memory::buckets - 1;

  void bucket(lanes const& x, int_lanes& of) const {
    lanes const under = (best_ - x) * 32.0f;
    lanes most;
    fill(most, static_cast<float>(last_bucket));
    of = __builtin_convertvector(under < most ? under : most, int_lanes);
  }
  [[nodiscard]] std::int32_t bucket(float x) const {
    return static_cast<std::int32_t>(
      std::min((best_ - x) * 32.0f, static_cast<float>(last_bucket)));
  }

  /// A bucket beyond which no candidate is among the `count` largest, as seen from the chunks' tops.
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

  /// Fills the histogram with what lies in the buckets up to `last`.
  void coarse(std::int32_t last) {
    auto& histogram = row_.memory().histogram;
    std::fill(histogram.begin(), histogram.end(), 0);
    for (auto const c : row_.active()) {
      if (bucket(top(c)) > last) { continue; }
      for (std::size_t r = 0; r < chunk_rows; ++r) {
        lanes x;
        row_.load_row(c, r, x);
        int_lanes b;
        bucket(x, b);
        int_lanes const wanted = (x > no_logit) & (b <= last);
        if (any(wanted)) { add(x, b, wanted); }
      }
    }
    from_.reduction().sum(std::span{histogram.data(), sampler_memory::buckets});
  }

  void add(lanes& x, int_lanes const& b, int_lanes const& wanted) {
    auto* const histogram = row_.memory().histogram.data();
    fixed_lanes weight;
    weigh(x, wanted, weight);
    for (std::size_t i = 0; i < lane_count; ++i) {
      histogram[static_cast<std::size_t>(b[i])] += whole(weight, i);
    }
  }

  void weigh(lanes& x, int_lanes const& wanted, fixed_lanes& weight) const {
    if constexpr (Weight::counts) {
      weight.low -= wanted;  // true is -1
    } else {
      to_mass(x, best_);
      weight.add(x);
    }
  }

  [[nodiscard]] static std::uint64_t whole(fixed_lanes const& weight, std::size_t i) {
    return (static_cast<std::uint64_t>(weight.high[i]) << 20) +
           static_cast<std::uint64_t>(weight.low[i]);
  }

  /// The logit at which the weights from the best on pass the limit, or the next above it.
  [[nodiscard]] float fine(std::uint64_t limit) {
    auto const& histogram = row_.memory().histogram;
    std::uint64_t above = 0;
    std::size_t b = 0;
    while (b < sampler_memory::buckets && above + histogram[b] <= limit) { above += histogram[b++]; }
    if (b == sampler_memory::buckets) { return row_.floor(); }
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
    if (Weight::counts || above + fixed_mass(at, best_) <= limit) { return at; }
    return std::nextafter(at, std::numeric_limits<float>::infinity());
  }

  /// The candidates in a bucket.
  [[nodiscard]] std::span<weighed const> gather(std::int32_t from) {
    auto& members = row_.memory().members;
    std::size_t n = 0;
    for (auto const c : row_.active()) {
      if (bucket(top(c)) > from) { continue; }
      for (std::size_t r = 0; r < chunk_rows; ++r) {
        lanes x;
        row_.load_row(c, r, x);
        int_lanes in;
        bucket(x, in);
        in = (in == from) & (x > no_logit);
        if (!any(in)) { continue; }
        lanes weighed = x;
        fixed_lanes weight;
        weigh(weighed, in, weight);
        for (std::size_t i = 0; i < lane_count; ++i) {
          if (in[i] != 0) { members[n++] = {order_key(x[i]), whole(weight, i)}; }
        }
      }
    }
    return {members.data(), n};
  }

  candidates<Reduction>& from_;
  logit_row& row_;
  float best_;
};

}  // namespace tpx::detail
