// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Weighs tokens by how near their probability is to a target, which moves so that the decaying
/// mean of what is drawn tends to `target`. Put it last, before Gumbel. Source: exllamav3
/// SS_AdaptiveP and llama.cpp (width 0.3, peak 5, sharpness 10).
struct AdaptiveP {
  static constexpr std::string_view name = "AdaptiveP";
  static constexpr bool looks_back = true;
  float target = 1;  // 1 turns it off
  float decay = 0.9f;

  struct state {
    float weighted_sum = 0;
    float total_weight = 0;  // 0: not begun
    double normaliser = 0;   // ln of what probabilities were divided by
  };

  [[nodiscard]] bool neutral() const { return target == 1; }
  void validate() const {
    detail::expect_within("AdaptiveP: target", target, 0, 1);
    detail::expect_within("AdaptiveP: decay", decay, 0, 0.99f);
  }
  template <class C>
  void apply(C& c, state& s) const {
    if (s.total_weight == 0) { s = {target / (1 - decay), 1 / (1 - decay), 0}; }
    float const aim = std::clamp(2 * target - s.weighted_sum / s.total_weight, 0.0f, 1.0f);
    s.normaliser = static_cast<double>(c.best()) + c.log_total();
    auto const log_total = static_cast<float>(c.log_total());
    c.remember();
    c.transform([best = c.best(), log_total, aim](detail::lanes& x, token_id) {
      x = (x - best) - log_total;
      detail::exp_or_zero(x);
      detail::lanes off = (x - aim) * (1 / 0.3f);
      detail::absolute(off);
      x = 5.0f - 10.0f * off * off / (1.0f + off);
    });
  }
  template <class C>
  void picked(C& c, token_id token, state& s) const {
    double const logit = static_cast<double>(c.remembered(token));
    s.weighted_sum = static_cast<float>(std::exp(logit - s.normaliser)) + decay * s.weighted_sum;
    s.total_weight = 1 + decay * s.total_weight;
  }
};
static_assert(stateful_stage<AdaptiveP>);

}  // namespace tpx::sample
