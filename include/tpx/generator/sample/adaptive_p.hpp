// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/scalar.hpp>
#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Weighs tokens by how near their probability is to a target, which moves so that the decaying
/// mean of what is drawn tends to `target`. Put it last, before Gumbel. Source: exllamav3
/// SS_AdaptiveP and llama.cpp (width 0.3, peak 5, sharpness 10).
struct AdaptiveP {
  static constexpr std::string_view name = "AdaptiveP";
  static constexpr bool on_any_space = true;
  static constexpr bool looks_back = true;
  float target = 1;  // 1 turns it off
  float decay = 0.9f;

  struct state {
    float weighted_sum = 0;
    float total_weight = 0;  // 0: not begun
    double normaliser = 0;   // ln of what probabilities were divided by
  };

  [[nodiscard]] TPX_HD bool neutral() const { return target == 1; }
  void validate() const {
    detail::expect_within("AdaptiveP: target", target, 0, 1);
    detail::expect_within("AdaptiveP: decay", decay, 0, 0.99f);
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c, state& s) const {
    if (s.total_weight == 0) { s = {target / (1 - decay), 1 / (1 - decay), 0}; }
    float const even = 2 * target - s.weighted_sum / s.total_weight;
    float const aim = even < 0 ? 0.0f : even > 1 ? 1.0f : even;
    s.normaliser = static_cast<double>(c.best()) + c.log_total();
    auto const log_total = static_cast<float>(c.log_total());
    c.remember();
    c.transform(nearness{c.best(), log_total, aim});
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void picked(C& c, token_id token, state& s) const {
    double const logit = static_cast<double>(c.remembered(token));
    s.weighted_sum =
      static_cast<float>(std::exp(logit - s.normaliser)) + detail::product(decay, s.weighted_sum);
    s.total_weight = 1 + detail::product(decay, s.total_weight);
  }

 private:
  /// Sixteen logits, or one.
  struct nearness {
    float best;
    float log_total;
    float aim;

    _CCCL_EXEC_CHECK_DISABLE
    template <class X>
    TPX_HD void operator()(X& x, token_id) const {
      x = (x - best) - log_total;
      detail::exp_or_zero(x);
      x = (x - aim) * (1 / 0.3f);
      detail::absolute(x);
      x = 5.0f - 10.0f * x * x / (1.0f + x);
    }
  };
};
static_assert(stateful_stage<AdaptiveP>);

}  // namespace tpx::sample
