// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/reduction.hpp>
#include <tpx/generator/sample/row.hpp>
#include <tpx/generator/sample/tallies.hpp>

#include <array>
#include <cmath>

namespace tpx {

/// The tokens that may still be drawn, with their logits: what stages work on. Over a vocabulary
/// that is cut over ranks, each has its part, and what is asked of the whole is the same on all, to
/// the bit, however it is cut. So ranks must do the same in the same order: a stage may branch on
/// parameters and on what is asked of the whole, not on what is here.
///
/// Cutting off and scaling touch no logit. Cost of a look at all candidates: their chunks of 256
/// tokens, so next to nothing once few are left.
template <vocabulary_reduction Reduction>
class candidates {
 public:
  candidates(detail::sampler_memory& memory, sample_request const& request,
             Reduction const& reduction, bool masked = true)
      : row_{memory, request, masked}, reduction_{reduction} {}

  /// The largest logit. Throws where there is none, or one that is no number. 16 bytes reduced.
  [[nodiscard]] float best() {
    if (!best_known_) {
      std::uint64_t x[2]{detail::order_key(row_.local_best()), row_.has_nan() ? 1u : 0u};
      reduction_.max(x);
      best_ = detail::from_order_key(static_cast<std::uint32_t>(x[0]));
      if (x[1] != 0 || best_ > most_logit) {
        fail("has a logit that is not a number, or too large");
      }
      if (!(best_ > detail::no_logit)) {
        fail("allows no token: all are masked, banned or -infinity");
      }
      best_known_ = true;
    }
    return best_;
  }

  /// Sum of e^(logit - best()), in units of 2^-40; rounded down token by token. 8 bytes reduced.
  [[nodiscard]] std::uint64_t fixed_total() {
    if (total_ == 0) {
      total_ = fixed_sums<1>([best = best()](auto& x) { detail::to_mass(x[0], best); })[0];
    }
    return total_;
  }
  /// ln of the sum of e^(logit - best()): the best token's probability is e^-log_total().
  [[nodiscard]] double log_total() {
    return detail::ln(static_cast<double>(fixed_total()) / detail::fixed_one);
  }

  /// Sums over all tokens of reals of 0 to 1, in units of 2^-40: f(x) gets sixteen logits in x[0]
  /// and leaves N reals for each in x. -infinity (no candidate) must give 0. 8 N bytes reduced.
  template <std::size_t N, class F>
  [[nodiscard]] std::array<std::uint64_t, N> fixed_sums(F f) {
    return row_sums<N>([&f](detail::lanes& logits, auto& sums) {
      detail::lanes x[N];
      x[0] = logits;
      f(x);
      for (std::size_t i = 0; i < N; ++i) { sums[i].add(x[i]); }
    });
  }
  /// The same where f(x, sums) adds what it makes of sixteen logits to N fixed_lanes, and may use
  /// up x.
  template <std::size_t N, class F>
  [[nodiscard]] std::array<std::uint64_t, N> row_sums(F f) {
    std::array<std::uint64_t, N> sums{};
    for (auto chunks = row_.active(); !chunks.empty();) {
      auto const some = chunks.first(std::min(chunks.size(), detail::fixed_lanes::most_chunks));
      chunks = chunks.subspan(some.size());
      detail::fixed_lanes part[N];
      for (auto const c : some) {
        for (std::size_t r = 0; r < detail::chunk_rows; ++r) {
          detail::lanes x;
          row_.load_row(c, r, x);
          f(x, part);
        }
      }
      for (std::size_t i = 0; i < N; ++i) { sums[i] += part[i].total(); }
    }
    reduction_.sum(sums);
    return sums;
  }

  /// Of all candidates, with depth = best() - logit: 24 bytes reduced.
  struct spread {
    std::uint64_t mass;   // sum of e^-depth, in units of 2^-40
    std::uint64_t depth;  // sum of depth * e^-depth, in the same units
    std::uint64_t count;
  };
  [[nodiscard]] spread masses() {
    auto const sums = fixed_sums<3>([best = best()](auto& x) {
      x[2] = detail::convert<float>(-(x[0] > detail::no_logit));
      detail::mass_and_depth(x, best);
    });
    return {sums[0], sums[1], sums[2] >> 40};
  }

  /// Of candidates with depth = (best() - logit) / 1024 under 1: sums of depth, its square and 1,
  /// in units of 2^-40. 24 bytes reduced.
  [[nodiscard]] std::array<std::uint64_t, 3> depth_moments() {
    return fixed_sums<3>([best = best()](auto& x) {
      detail::lanes const depth = (best - x[0]) * 0x1p-10f;
      x[2] = detail::convert<float>(-(depth < 1.0f));
      x[0] = depth;
      detail::keep_or_zero(x[0], depth < 1.0f);
      x[1] = x[0] * x[0];
    });
  }

  /// How many candidates have a logit over `than`. 8 bytes reduced.
  [[nodiscard]] std::uint64_t count_over(float than) {
    return fixed_sums<1>([than](auto& x) { x[0] = detail::convert<float>(-(x[0] > than)); })[0] >>
           40;
  }

  /// Calls f(token, logit) for each candidate of this rank of at least `from`, tokens ascending.
  template <class F>
  void for_each_from(float from, F f) {
    for (auto const c : row_.active()) {
      if (!(row_.top(c) >= from)) { continue; }
      for (std::size_t r = 0; r < detail::chunk_rows; ++r) {
        detail::lanes x;
        row_.load_row(c, r, x);
        if (!detail::any((x >= from) & (x > detail::no_logit))) { continue; }
        for (std::size_t i = 0; i < detail::lane_count; ++i) {
          if (x[i] >= from && x[i] > detail::no_logit) { f(row_.token(c, r, i), x[i]); }
        }
      }
    }
  }

  /// Multiplies all logits, which is dividing by the temperature.
  void multiply(float by) {
    row_.multiply(by);
    forget();
  }

  /// Only logits of at least `floor` stay candidates, and the best.
  void keep_from(float floor) {
    row_.keep_from(std::min(floor, best()));
    total_ = 0;
  }

  /// Only those that come no later than `end` in an order stay candidates.
  template <class Order>
  void keep_until(Order const& order, float end) {
    transform([&](detail::lanes& x, token_id) {
      detail::lanes y = x;
      order.order(y);
      detail::keep(x, y >= end);
    });
  }

  /// Only this token, which is a candidate, stays one.
  void keep_only(token_id token) {
    transform([token](detail::lanes& x, token_id first) {
      detail::int_lanes const at = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      detail::keep(x, at == token - first);
    });
  }

  /// f(x, t) changes the logits x of tokens t to t + 15 in place; -infinity ends a candidate.
  template <class F>
  void transform(F f) {
    row_.transform(f);
    forget();
  }

  /// To be called on every rank before edits: does now what cutting off and scaling have put off.
  void settle() {
    row_.settle();
    forget();
  }

  /// Gives a candidate the logit f(logit). Nothing where it is none, or another rank's; a rank may
  /// edit tokens of its own alone.
  template <class F>
  void edit(token_id token, F f) {
    row_.edit(token, f);
    forget();
  }

  /// The same of those that are not in a list, which is ascending.
  template <class F>
  void for_each_unlisted(std::span<token_id const> list, float from, F f) {
    for_each_from(from, [&](token_id token, float logit) {
      if (!std::binary_search(list.begin(), list.end(), token)) { f(token, logit); }
    });
  }
  /// These get the logit f(logit), which may not be larger.
  template <class F>
  void edit_unlisted(std::span<token_id const> list, float from, F f) {
    settle();
    for_each_unlisted(list, from, [&](token_id token, float logit) {
      if (f(logit) != logit) { edit(token, f); }
    });
  }

  /// The largest, and the sum, of what all ranks have. 8 bytes reduced.
  [[nodiscard]] std::uint64_t largest(std::uint64_t mine) {
    reduction_.max(std::span{&mine, 1});
    return mine;
  }
  [[nodiscard]] std::uint64_t sum(std::uint64_t mine) {
    reduction_.sum(std::span{&mine, 1});
    return mine;
  }

  /// Gives each candidate among the last `count` tokens of the history the logit f(logit, most,
  /// sum), of what fade(back) tells of its occurrences: back is 1 for the last token of all.
  template <class Fade, class F>
  void edit_seen(std::size_t count, Fade fade, F f) {
    auto const history = request().history;
    settle();
    detail::token_tallies seen{row_.memory()};
    for (std::size_t back = std::min(history.size(), count); back > 0; --back) {
      float const amount = fade(back);
      if (amount > 0) { seen.add(history[history.size() - back], amount); }
    }
    seen.drain([&](token_id token, float most, float sum) {
      edit(token, [&](float logit) { return f(logit, most, sum); });
    });
  }

  /// Gives each candidate in a stage's list the logit f(logit, bias).
  template <class S, class F>
  void edit_listed(S stage, F f) {
    settle();
    stage.spans([&](auto const& list) {
      for (auto const& entry : list) {
        if (!S::counts(entry)) { continue; }
        edit(entry.token, [&](float logit) { return f(logit, entry.bias); });
      }
    });
  }

  /// Gives each candidate that stage.find finds in the history the logit f(logit, penalty).
  template <class S, class F>
  void edit_found(S const& stage, F f) {
    settle();
    detail::token_tallies seen{row_.memory()};
    stage.find(request().history, [&](token_id token, float n) { seen.add(token, n); });
    seen.drain([&](token_id token, float most, float) {
      edit(token, [&](float logit) { return f(logit, stage.penalty(most)); });
    });
  }

  /// A token's logit, -infinity where it is no candidate. 8 bytes reduced.
  [[nodiscard]] float logit(token_id token) {
    std::uint64_t key = detail::order_key(row_.logit(token));
    reduction_.max(std::span{&key, 1});
    return detail::from_order_key(static_cast<std::uint32_t>(key));
  }

  /// Keeps a copy of all logits as they are now, for a stage with `looks_back`. Settles.
  void remember() {
    row_.settle();
    auto& memory = row_.memory();
    for (auto const a : row_.active()) {
      std::memcpy(memory.before[a].logits, memory.at[a], sizeof(detail::chunk));
    }
  }
  /// The logit that a token had then, which is still a candidate. 8 bytes reduced.
  [[nodiscard]] float remembered(token_id token) {
    float const here = row_.logit(token);
    std::uint64_t key = here > detail::no_logit ? detail::order_key(row_.before(token)) : 0;
    reduction_.max(std::span{&key, 1});
    return detail::from_order_key(static_cast<std::uint32_t>(key));
  }

  [[nodiscard]] sample_request const& request() const { return row_.request(); }
  [[nodiscard]] detail::logit_row& row() { return row_; }
  [[nodiscard]] Reduction const& reduction() const { return reduction_; }

 private:
  static constexpr float most_logit = 1e30f;

  void forget() {
    best_known_ = false;
    total_ = 0;
  }

  [[noreturn]] void fail(char const* what) const {
    throw error{errc::invalid_argument,
                "sampler: request " + std::to_string(request().id) + ' ' + what};
  }

  detail::logit_row row_;
  Reduction const& reduction_;
  float best_ = 0;
  bool best_known_ = false;
  std::uint64_t total_ = 0;
};

}  // namespace tpx
