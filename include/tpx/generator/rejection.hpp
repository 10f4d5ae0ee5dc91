// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/counter_rng.hpp>
#include <tpx/generator/token.hpp>
#include <tpx/generator/token_distribution.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace tpx {

namespace detail {

/// The sum of the weights; throws invalid_argument for what is no distribution.
inline double whole_weight(token_distribution d, char const* whose) {
  double sum = 0;
  token_id last = -1;
  for (auto const& c : d) {
    expects(
      c.token > last && c.weight >= 0,
      [&] {
        return std::string{whose} + "'s candidate " + std::to_string(c.token) + " after " +
               std::to_string(last) + " has the weight " + std::to_string(c.weight);
      },
      "give candidates in ascending order of tokens, with weights of 0 or more");
    sum += static_cast<double>(c.weight);
    last = c.token;
  }
  expects(
    sum > 0 && sum <= 1e300,
    [&] { return std::string{whose} + "'s weights sum up to " + std::to_string(sum); },
    "give at least one candidate a weight, and none an infinite one");
  return sum;
}

/// Calls `use(token, share)` for each of p's tokens with max(0, p - q) of the normalised weights.
template <class Use>
void each_residual(token_distribution p, double p_sum, token_distribution q, double q_sum,
                   Use&& use) {
  auto drafted = q.begin();
  for (auto const& [token, weight] : p) {
    while (drafted != q.end() && drafted->token < token) { ++drafted; }
    auto share = static_cast<double>(weight) / p_sum;
    if (drafted != q.end() && drafted->token == token) {
      share -= static_cast<double>(drafted->weight) / q_sum;
    }
    if (share > 0) { use(token, share); }
  }
}

/// The token at `part` (0 to 1) of the residual's weight; -1 if it has none.
inline token_id pick_residual(token_distribution p, double p_sum, token_distribution q,
                              double q_sum, double part) {
  double sum = 0;
  each_residual(p, p_sum, q, q_sum, [&](token_id, double share) { sum += share; });
  token_id picked = -1;
  double left = part * sum;
  each_residual(p, p_sum, q, q_sum, [&](token_id token, double share) {
    if (left >= 0) { picked = token; }
    left -= share;
  });
  return picked;
}

inline double share_of(token_id token, token_distribution d, double sum) {
  auto const at = std::ranges::lower_bound(d, token, {}, &candidate::token);
  return at != d.end() && at->token == token ? static_cast<double>(at->weight) / sum : 0;
}

/// Whether a drafted token is taken that has the share p in the target and q in the draft.
[[nodiscard]] inline bool accepts(double p, token_id drafted, double q, std::uint64_t seed,
                                  std::uint64_t step) {
  expects(
    q > 0, [&] { return "token " + std::to_string(drafted) + " has no weight in its draft"; },
    "give the distribution that the token was drawn from");
  return uniform(random_at(seed, step, 0, random_use::accept)) * q < p;
}

}  // namespace detail

/// A token drawn from `target`: what follows a draft that was accepted to its end.
[[nodiscard]] inline token_id draw(token_distribution target, std::uint64_t seed,
                                   std::uint64_t step, random_use use = random_use::residual) {
  auto const sum = detail::whole_weight(target, "the target");
  return detail::pick_residual(target, sum, {}, 1, uniform(random_at(seed, step, 0, use)));
}

struct verdict {
  bool accepted;   // and if not, the rest of the draft is void
  token_id token;  // at this step: the drafted one, or one in its place
};

/// Decides on one drafted token so that the token which comes out is distributed as `target`,
/// whatever the draft was: accepts with probability min(1, p/q), else draws from max(0, p - q).
///
/// `draft`: the distribution that `drafted` was drawn from, by random numbers independent of these;
/// empty for a draft without chance (greedy, n-gram). O(candidates).
/// Throws invalid_argument for candidates out of order, a negative or NaN weight, no weight at all,
/// or a drafted token that the draft could not have drawn.
/// Source: Leviathan et al. 2023 (arXiv:2211.17192) algorithm 1, Chen et al. 2023
/// (arXiv:2302.01318).
[[nodiscard]] inline verdict verify(token_distribution target, token_id drafted,
                                    token_distribution draft, std::uint64_t seed,
                                    std::uint64_t step) {
  candidate const certain[]{{drafted, 1}};
  if (draft.empty()) { draft = certain; }
  auto const p_sum = detail::whole_weight(target, "the target");
  auto const q_sum = detail::whole_weight(draft, "the draft");
  auto const p = detail::share_of(drafted, target, p_sum);
  auto const q = detail::share_of(drafted, draft, q_sum);
  if (detail::accepts(p, drafted, q, seed, step)) { return {true, drafted}; }
  auto const token = detail::pick_residual(target, p_sum, draft, q_sum,
                                           uniform(random_at(seed, step, 0, random_use::residual)));
  // Rounding alone can refuse where nothing is left to draw from: the two are then the same.
  return token < 0 ? verdict{true, drafted} : verdict{false, token};
}

}  // namespace tpx
