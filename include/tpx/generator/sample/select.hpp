// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/candidates.hpp>
#include <tpx/generator/sample/limit_guess.hpp>

#include <array>
#include <cmath>
#include <limits>

namespace tpx::detail {

/// How far the candidates that come first in an order are to be kept for their weights to come to a
/// limit, found without a sort. A histogram of every 32nd candidate tells about where that is; one
/// pass over all of them weighs what comes before each of six places there; of the few candidates
/// between two of these, four histograms over the bits of a float find the one. Equal ones are kept
/// or dropped together. Exact, however good the guess, and the same however the row is cut.
///
/// Source: Floyd and Rivest, Expected time bounds for selection (CACM 1975).
/// Cost    a pass over the candidates, and one over those of their chunks that reach the lower
///         place; 16 KiB reduced in seven reductions. Where a bound is known, or few chunks have
///         candidates, the second pass alone.
template <class Order, class R>
class selection {
 public:
  selection(candidates<R>& from, Order const& order)
      : from_{from},
        row_{from.row()},
        order_{order},
        best_{from.best()},
        guess_{row_, order, best_} {}

  /// Where the `count` first end.
  [[nodiscard]] float end(std::uint64_t count) requires(Order::counts) {
    return end(guess_.bound(count), [count](std::uint64_t) { return count - 1; });
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
  static constexpr std::size_t places = limit_guess<Order>::places;

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

  /// The stretch between two places that holds the limit.
  template <class Limit>
  [[nodiscard]] stretch narrow(Limit limit) {
    guess_.sample();
    from_.reduction().sum(row_.memory().histogram);
    auto const place = guess_.around(limit);
    auto const weight = from_.template row_sums<places + 1>([&](lanes& x, auto& sums) {
      lanes y = x;
      order_.order(y);
      fixed_lanes each;
      Order::weigh(x, best_, each);
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
      if (Order::by_logit && row_.top(c) < in.from) { continue; }
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
      Order::weigh(x, best_, each);
      each.split(weight + i);
    }
    return n;
  }

  candidates<R>& from_;
  logit_row& row_;
  Order order_;
  float best_;
  limit_guess<Order> guess_;
};

/// Where the first ones in an order end, to a limit that is a count or a part of the whole.
template <class R, class Order, class Limit>
[[nodiscard]] float end_of(candidates<R>& c, Order const& order, Limit limit) {
  return selection<Order, R>{c, order}.end(limit);
}

}  // namespace tpx::detail
