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
/// pass over all of them weighs what comes before that place; by what is missing there to the
/// limit, the histogram tells a place beyond it. Of the few candidates between the two, histograms
/// over the bits of a float find the one. Equal ones are kept or dropped together. Exact, and the
/// same however the row is cut: where the limit is not between, what is behind one of them is
/// looked at.
///
/// Source: Floyd and Rivest, Expected time bounds for selection (CACM 1975).
/// Cost    a pass over the candidates, and one over those of their chunks that reach the lower
///         place; 24 KiB reduced in at most seven reductions. Where a bound is known, or few chunks
///         have candidates, the second pass alone.
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
  static constexpr float last = std::numeric_limits<float>::lowest();

  /// A stretch of the order: from `from` up to `to`, without it. What comes before it weighs
  /// `above`, or with it where that is known, and all together `total`, if it is known.
  struct stretch {
    float from = last;
    float to = -no_logit;
    std::uint64_t above = 0;
    std::uint64_t total = 0;
    bool with_it = false;
  };

  /// `from` is at or behind where the limit lies, if it is a number.
  template <class Limit>
  [[nodiscard]] float end(float from, Limit limit) {
    std::uint64_t known[2]{order_key(from), row_.active().size()};
    from_.reduction().max(known);
    stretch in{from_order_key(static_cast<std::uint32_t>(known[0]))};
    if (!(in.from > no_logit)) { in = known[1] > few_chunks ? narrow(limit) : stretch{}; }
    return fine(in, limit);
  }

  /// A stretch that likely holds the limit.
  template <class Limit>
  [[nodiscard]] stretch narrow(Limit limit) {
    guess_.sample();
    from_.reduction().sum(row_.memory().histogram);
    float const place = guess_.first(limit);
    auto const weight = from_.template row_sums<2>([&](lanes& x, auto& sums) {
      lanes y = x;
      order_.order(y);
      fixed_lanes each;
      Order::weigh(x, best_, each);
      sums[0].add(each, y >= place);
      sums[1].add(each);
    });
    auto const most = limit(weight[1]);
    float const other = guess_.second(weight, most);
    if (weight[0] <= most) { return {std::min(other, place), place, weight[0], weight[1], false}; }
    return {place, std::max(other, place), weight[0], weight[1], true};
  }

  /// Where the weights pass the limit; just above if what passes it is not kept.
  template <class Limit>
  [[nodiscard]] float fine(stretch in, Limit limit) {
    std::size_t found = gather(in);
    std::uint32_t* const key = row_.memory().keys.data();
    std::uint64_t* const weight = row_.memory().weights.data();
    std::uint64_t most = 0;
    std::uint32_t low = order_key(in.from);
    auto const bits = std::max(1, static_cast<int>(std::bit_width(order_key(in.to) - low)));
    for (int shift = bits, before = bits; shift > 0; before = shift) {
      shift = std::max(shift - 8, 0);
      std::array<std::uint64_t, 256> part{};
      for (std::size_t i = 0; i < found; ++i) { part[(key[i] - low) >> shift] += weight[i]; }
      from_.reduction().sum(part);
      if (before == bits) {
        std::uint64_t here = 0;
        for (auto const w : part) { here += w; }
        if (in.with_it) { in.above -= here; }
        most = limit(std::max(in.total, in.above + here));
        if (in.above > most) { return fine({.from = in.to, .total = in.total}, limit); }
        if (in.above + here <= most) {
          if (in.from == last) { return no_logit; }
          return fine({.to = in.from, .above = in.above + here, .total = in.total}, limit);
        }
      }
      std::uint32_t digit = 255;
      while (in.above + part[digit] <= most) { in.above += part[digit--]; }
      low += digit << shift;
      std::size_t left = 0;
      for (std::size_t i = 0; i < found; ++i) {
        key[left] = key[i];
        weight[left] = weight[i];
        left += static_cast<std::size_t>((key[i] - low) >> shift == 0);
      }
      found = left;
    }
    float const at = from_order_key(low);
    if (Order::passes || in.above + fixed_mass(at, best_) <= most) { return at; }
    return std::nextafter(at, std::numeric_limits<float>::infinity());
  }

  /// The candidates in a stretch: keys of their places in the order, and weights. Tells how many.
  [[nodiscard]] std::size_t gather(stretch const& in) {
    float* const logit = row_.memory().logits.data();
    std::uint32_t* const key = row_.memory().keys.data();
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
      std::uint32_t bits[lane_count];
      rows.store(bits);
      std::uint32_t some[lane_count];  // lanes that have one, found without a branch to guess
      std::size_t count = 0;
      for (std::uint32_t i = 0; i < lane_count; ++i) {
        some[count] = i;
        count += static_cast<std::size_t>(bits[i] != 0);
      }
      for (std::size_t k = 0; k < count; ++k) {
        auto left = bits[some[k]];
        do {
          logit[n++] = row_.at(c, static_cast<std::size_t>(std::countr_zero(left)), some[k]);
        } while ((left &= left - 1) != 0);
      }
    }
    for (std::size_t i = 0; i < n; i += lane_count) {
      lanes x;
      load(x, logit + i);
      lanes y = x;
      order_.order(y);
      order_keys(y).store(key + i);
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
