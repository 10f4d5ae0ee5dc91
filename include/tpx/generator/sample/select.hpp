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
};

/// The likeliest come first, and weigh their probability. The one that would pass the limit is not
/// kept.
struct likeliest_first {
  static constexpr bool counts = false;
  static constexpr bool by_logit = true;
  static constexpr bool passes = false;
  void order(lanes&) const {}
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
};

/// How far the candidates that come first in an order are to be kept for their weights to come to a
/// limit, found without a sort. A histogram over 1/32 nats of one candidate in sixteen guesses
/// where, one pass over all of them weighs what comes before five places around the guess, and four
/// histograms of 256 buckets over the bits of the few between two of these say which candidate it
/// is. Those that are equal are kept or dropped together. Exact, whatever the guess: the same
/// however the row is cut over ranks.
///
/// Cost    one pass over the candidates, and one over the chunks that have some between the places:
///         16 KiB reduced in seven reductions. Where few candidates come into question, as for a
///         small count, one over these alone.
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
    return end(bound(count), [count](std::uint64_t) { return count - 1; });
  }
  /// Where the first ones end that have this part of the whole probability.
  [[nodiscard]] float end(double part) requires(!Order::counts) {
    return end(no_logit, [part](std::uint64_t total) {
      auto const most = static_cast<std::uint64_t>(part * static_cast<double>(total));
      return Order::passes && most > 0 ? most - 1 : most;
    });
  }

 private:
  static constexpr std::size_t few_chunks = 64;
  static constexpr std::size_t places = 5;

  /// A stretch of the order: from `from` up to `to`, without it. What comes before it weighs
  /// `above`, and all together `total`, if it is known.
  struct stretch {
    float from;
    float to = -no_logit;
    std::uint64_t above = 0;
    std::uint64_t total = 0;
  };

  /// `from` is at or behind where the limit lies, if it is a number.
  template <class Limit>
  [[nodiscard]] float end(float from, Limit limit) {
    std::uint64_t known[2]{order_key(from), row_.active().size()};
    from_.reduction().max(known);
    stretch in{from_order_key(static_cast<std::uint32_t>(known[0]))};
    if (!(in.from > no_logit)) {
      in.from = std::numeric_limits<float>::lowest();
      if (known[1] > few_chunks) { in = narrow(limit); }
    }
    return fine(in, limit);
  }

  static constexpr auto last_bucket = static_cast<float>(sampler_memory::buckets - 1);

  [[nodiscard]] std::size_t bucket(float y) const {
    return static_cast<std::size_t>(std::min((first_ - y) * 32.0f, last_bucket));
  }
  void buckets(lanes const& y, std::uint32_t (&of)[lane_count]) const {
    lanes last;
    fill(last, last_bucket);
    lanes const under = (first_ - y) * 32.0f;
    int_lanes const each = __builtin_convertvector(under < last ? under : last, int_lanes);
    std::memcpy(of, &each, sizeof(of));
  }

  [[nodiscard]] float top(std::uint32_t c) const { return row_.memory().top[c] * row_.scale(); }

  /// What the `count` largest here are not under, as seen from the chunks' tops.
  [[nodiscard]] float bound(std::uint64_t count) {
    auto const active = row_.active();
    if (count > active.size()) { return no_logit; }
    auto& tops = row_.memory().histogram;
    std::fill(tops.begin(), tops.end(), 0);
    for (auto const c : active) { ++tops[bucket(top(c))]; }
    std::size_t b = 0;
    for (std::uint64_t seen = tops[0]; seen < count; seen += tops[++b]) {}
    float least = best_;
    for (auto const c : active) {
      if (bucket(top(c)) <= b) { least = std::min(least, top(c)); }
    }
    return least;
  }

  /// The weights of sixteen candidates; x is used up.
  void weigh(lanes& x, fixed_lanes& weight) const {
    if constexpr (Order::counts) {
      weight.low -= x > no_logit;  // true is -1
    } else {
      to_mass(x, best_);
      weight.add(x);
    }
  }

  /// Adds sixteen candidates to the histogram, each for some; x is used up.
  void count(lanes& x, std::uint64_t stands_for) const {
    lanes y = x;
    order_.order(y);
    std::uint32_t to[lane_count];
    buckets(y, to);
    fixed_lanes weight;
    weigh(x, weight);
    std::uint64_t each[lane_count];
    weight.split(each);
    auto& histogram = row_.memory().histogram;
    for (std::size_t i = 0; i < lane_count; ++i) { histogram[to[i]] += stands_for * each[i]; }
  }

  /// About where the limit lies, from the best of each chunk and 16 of its others.
  template <class Limit>
  [[nodiscard]] float guess(Limit limit) {
    auto& histogram = row_.memory().histogram;
    std::fill(histogram.begin(), histogram.end(), 0);
    auto const active = row_.active();
    for (std::size_t first = 0; first < active.size(); first += lane_count) {
      lanes best;
      fill(best, no_logit);
      for (std::size_t i = 0; i < std::min(lane_count, active.size() - first); ++i) {
        best[i] = top(active[first + i]);
      }
      count(best, 1);
    }
    for (auto const c : active) {
      lanes x;
      row_.load_row(c, 0, x);
      keep(x, x < top(c));
      count(x, chunk_rows);
    }
    from_.reduction().sum(histogram);
    std::uint64_t total = 0;
    for (auto const w : histogram) { total += w; }
    std::uint64_t left = limit(total);
    std::size_t b = 0;
    for (; b + 1 < histogram.size() && histogram[b] <= left; ++b) { left -= histogram[b]; }
    float const into = static_cast<float>(left) / (static_cast<float>(histogram[b]) + 1);
    return first_ - (static_cast<float>(b) + std::min(into, 1.0f)) / 32;
  }

  /// The stretch between two places that holds the limit.
  template <class Limit>
  [[nodiscard]] stretch narrow(Limit limit) {
    float place[places];
    std::copy_n(std::array{0.15f, 0.03f, 0.0f, -0.03f, -0.15f}.begin(), places, place);
    float const about = guess(limit);
    for (float& p : place) { p += about; }
    auto const weight = from_.template row_sums<places + 1>([&](lanes& x, auto& sums) {
      lanes y = x;
      order_.order(y);
      fixed_lanes each;
      weigh(x, each);
      for (std::size_t i = 0; i < places; ++i) { sums[i].add(each, y >= place[i]); }
      sums[places].add(each);
    });
    std::size_t i = 0;
    for (auto const most = limit(weight[places]); i < places && weight[i] <= most; ++i) {}
    stretch found{.from = std::numeric_limits<float>::lowest(), .total = weight[places]};
    if (i < places) { found.from = place[i]; }
    if (i > 0) {
      found.to = place[i - 1];
      found.above = weight[i - 1];
    }
    return found;
  }

  /// Where the weights pass the limit; just above if what passes it is not kept.
  template <class Limit>
  [[nodiscard]] float fine(stretch const& in, Limit limit) {
    std::size_t const found = gather(in);
    auto const& place = row_.memory().places;
    auto const& weight = row_.memory().weights;
    std::uint64_t above = in.above;
    std::uint64_t most = 0;
    std::uint32_t key = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      std::array<std::uint64_t, 256> part{};
      for (std::size_t i = 0; i < found; ++i) {
        auto const k = order_key(place[i]);
        bool const same = shift == 24 || k >> (shift + 8) == key >> (shift + 8);
        if (same) { part[k >> shift & 255] += weight[i]; }
      }
      from_.reduction().sum(part);
      if (shift == 24) {
        std::uint64_t total = above;
        for (auto const w : part) { total += w; }
        most = limit(std::max(in.total, total));
        if (total <= most) { return no_logit; }
      }
      std::uint32_t digit = 255;
      while (above + part[digit] <= most) { above += part[digit--]; }
      key |= digit << shift;
    }
    float const at = from_order_key(key);
    if (Order::passes || above + fixed_mass(at, best_) <= most) { return at; }
    return std::nextafter(at, std::numeric_limits<float>::infinity());
  }

  /// The candidates in a stretch: places in the order and weights. Tells how many.
  [[nodiscard]] std::size_t gather(stretch const& in) {
    float* const place = row_.memory().places.data();
    std::uint64_t* const weight = row_.memory().weights.data();
    std::size_t n = 0;
    for (auto const c : row_.active()) {
      if (Order::by_logit && top(c) < in.from) { continue; }
      int_lanes rows = {};  // bit r of each lane is whether it is a candidate's in row r
      for (std::size_t r = 0; r < chunk_rows; ++r) {
        lanes y;
        row_.load_row(c, r, y);
        order_.order(y);
        rows |= ((y >= in.from) & (y < in.to)) & (1 << r);
      }
      for (std::size_t i = 0; i < lane_count; ++i) {
        for (auto left = static_cast<std::uint32_t>(rows[i]); left != 0; left &= left - 1) {
          place[n++] = row_.at(c, static_cast<std::size_t>(std::countr_zero(left)), i);
        }
      }
    }
    for (std::size_t i = 0; i < n; i += lane_count) {
      lanes x;
      load(x, place + i);
      lanes y = x;
      order_.order(y);
      store(place + i, y);
      fixed_lanes each;
      weigh(x, each);
      each.split(weight + i);
    }
    return n;
  }

  candidates<R>& from_;
  logit_row& row_;
  Order order_;
  float best_;
  float first_;
};

}  // namespace tpx::detail
