// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/rejection.hpp>
#include <tpx/generator/sample/candidates.hpp>

#include <cmath>
#include <vector>

namespace tpx::detail {

/// The request's drafted token or another one in its place, so that what comes out is distributed
/// as the candidates are: verify() where the target is a row of logits. again() draws from the
/// candidates as they are then, by other random numbers; `aside` is room for their logits, as many
/// as the draft has. They are unchanged after it.
/// Cost    one look at all candidates and, where the token is refused, another draw.
template <class C, class Draw>
[[nodiscard]] token_id take_or_replace(C& c, sample_request const& asked, std::vector<float>& aside,
                                       Draw&& again) {
  auto const drafted = asked.drafted;
  float const best = c.best();
  double const total = static_cast<double>(c.fixed_total()) / fixed_one;
  double const p = static_cast<double>(fixed_mass(c.logit(drafted), best)) / fixed_one / total;
  double const q_sum = whole_weight(asked.drawn_from, "the draft");
  double const q = share_of(drafted, asked.drawn_from, q_sum);
  if (accepts(p, drafted, q, asked.seed, asked.step)) { return drafted; }
  constexpr float hardly = -1e30f;  // none at all, but still a candidate
  aside.clear();
  c.settle();
  for (auto const& [token, weight] : asked.drawn_from) {
    double const taken = static_cast<double>(weight) / q_sum * total;
    c.edit(token, [&](float logit) {
      aside.push_back(logit);
      double const left = std::exp(static_cast<double>(logit - best)) - taken;
      return left > 0 ? best + static_cast<float>(std::log(left)) : hardly;
    });
  }
  // Rounding alone can refuse where nothing is left to draw from: the two are then the same.
  token_id const other = c.best() > hardly ? again() : drafted;
  auto before = aside.begin();
  for (auto const& [token, weight] : asked.drawn_from) {
    c.edit(token, [&](float) { return *before++; });
  }
  return other;
}

}  // namespace tpx::detail
