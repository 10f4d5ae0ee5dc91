// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/order.hpp>
#include <tpx/generator/sample/row.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace tpx::detail {

/// About how far the candidates that come first in an order go for their weights to come to a
/// limit, in a histogram over 1/64 nats of every 32nd candidate.
template <class Order>
class limit_guess {
 public:
  limit_guess(logit_row& row, Order const& order, float best)
      : row_{row}, order_{order}, best_{best}, first_{Order::by_logit ? best : 0.0f} {}

  /// What the `count` largest here are not under, as seen from the chunks' tops.
  [[nodiscard]] float bound(std::uint64_t count) {
    auto const active = row_.active();
    if (count > active.size()) { return no_logit; }
    auto& tops = row_.memory().histogram;
    std::fill(tops.begin(), tops.end(), 0);
    for (auto const c : active) { ++tops[bucket(row_.top(c))]; }
    std::size_t b = 0;
    for (std::uint64_t seen = tops[0]; seen < count; seen += tops[++b]) {}
    float least = best_;
    for (auto const c : active) {
      if (bucket(row_.top(c)) <= b) { least = std::min(least, row_.top(c)); }
    }
    return least;
  }

  /// Fills the histogram from this rank's part of the row: the best of each chunk, which stands for
  /// itself, and 16 others of every second one, for the rest.
  void sample() {
    auto& histogram = row_.memory().histogram;
    std::fill(histogram.begin(), histogram.end(), 0);
    auto const active = row_.active();
    for (std::size_t first = 0; first < active.size(); first += lane_count) {
      float best[lane_count];
      for (std::size_t i = 0; i < lane_count; ++i) {
        best[i] = first + i < active.size() ? row_.top(active[first + i]) : no_logit;
      }
      lanes x;
      load(x, best);
      count(x, 1);
    }
    for (std::size_t i = 0; i < active.size(); i += 2) {
      lanes x;
      row_.load_row(active[i], 0, x);
      keep(x, x < row_.top(active[i]));
      count(x, 2 * chunk_rows);
    }
  }

  /// A place near the limit, as the joined histogram tells; all ranks get the same.
  template <class Limit>
  [[nodiscard]] float first(Limit limit) {
    std::uint64_t sum = 0;
    for (auto const w : row_.memory().histogram) { sum += w; }
    all_ = static_cast<double>(sum);
    auto const most = static_cast<double>(limit(sum));
    deviation_ = std::sqrt(most * std::max(all_ - most, 0.0));
    return behind(most);
  }

  /// A place likely on the other side of the limit `most`, where weight[0] is before the first
  /// place and weight[1] all together. Farther than the histogram has it, which is of a sample.
  [[nodiscard]] float second(std::array<std::uint64_t, 2> const& weight, std::uint64_t most) {
    double const missing = static_cast<double>(most) - static_cast<double>(weight[0]);
    double const reach = 1.5 * missing / static_cast<double>(weight[1]) * all_;
    double const least = 0.008 * deviation_;
    return missing < 0 ? before(before_ + reach - least) : behind(before_ + reach + least);
  }

 private:
  /// The first place between two buckets that so much or more of the histogram is before.
  [[nodiscard]] float behind(double wanted) {
    auto const& histogram = row_.memory().histogram;
    std::size_t b = 0;
    before_ = static_cast<double>(histogram[0]);
    while (b + 1 < histogram.size() && before_ <= wanted) {
      before_ += static_cast<double>(histogram[++b]);
    }
    return first_ - (static_cast<float>(b) + 0.5f) / per_nat;
  }
  /// The last one that no more of it is before.
  [[nodiscard]] float before(double wanted) const {
    auto const& histogram = row_.memory().histogram;
    std::size_t b = 0;
    auto sum = static_cast<double>(histogram[0]);
    while (b + 1 < histogram.size() && sum <= wanted) {
      sum += static_cast<double>(histogram[++b]);
    }
    return first_ - (static_cast<float>(b) - 0.5f) / per_nat;
  }

  static constexpr float per_nat = 64;
  static constexpr auto last_bucket = static_cast<float>(sampler_memory::buckets - 1);

  [[nodiscard]] std::size_t bucket(float y) const {
    return static_cast<std::size_t>(std::min((first_ - y) * per_nat + 0.5f, last_bucket));
  }
  void buckets(lanes const& y, std::uint32_t (&of)[lane_count]) const {
    lanes last = last_bucket;
    lanes const under = (first_ - y) * per_nat + 0.5f;
    int_lanes const each = convert<std::int32_t>(select(under < last, under, last));
    each.store(of);
  }

  /// Adds sixteen candidates to the histogram, each for some; x is used up.
  void count(lanes& x, std::uint64_t stands_for) const {
    lanes y = x;
    order_.order(y);
    std::uint32_t to[lane_count];
    buckets(y, to);
    fixed_lanes weight;
    Order::weigh(x, best_, weight);
    std::uint64_t each[lane_count];
    weight.split(each);
    auto& histogram = row_.memory().histogram;
    for (std::size_t i = 0; i < lane_count; ++i) { histogram[to[i]] += stands_for * each[i]; }
  }

  logit_row& row_;
  Order order_;
  float best_;
  float first_;
  double all_ = 0;        // the histogram's weight
  double before_ = 0;     // how much of it is before the place that was told last
  double deviation_ = 0;  // of that in a sample of one
};

}  // namespace tpx::detail
