// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/scalar.hpp>
#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Exclude top choices: of the tokens with a probability of at least `threshold`, all but the least
/// likely are left out with probability `probability`. That is not drawn but averaged: with their
/// mass m they are scaled by (1 - probability) / (1 + probability * m / (1 - m)), so that what
/// Gumbel draws is distributed alike. Those as likely as the least likely one stay with it.
/// Source: exllamav3 SS_XTC. (llama.cpp draws, and truncates.)
struct Xtc {
  static constexpr std::string_view name = "Xtc";
  static constexpr bool on_any_space = true;
  float probability = 0;
  float threshold = 0.1f;
  std::span<token_id const> keep = {};  // tokens left alone, ascending; the caller's

  [[nodiscard]] TPX_HD bool neutral() const { return probability == 0 || threshold > 0.5f; }
  template <class F>
  void spans(F f) {
    f(keep);
  }
  void validate() const {
    detail::expect_within("Xtc: probability", probability, 0, 1);
    detail::expect_within("Xtc: threshold", threshold, 0, 1);
    expects(std::is_sorted(keep.begin(), keep.end()), "Xtc: the tokens to keep are not ascending");
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    float const best = c.best();
    double const total = static_cast<double>(c.fixed_total());
    float const from =
      best + static_cast<float>(detail::ln(static_cast<double>(threshold)) + c.log_total());
    std::uint64_t least = 0;  // the key, turned round: none is 0
    c.for_each_unlisted(keep, from, [&](token_id, float logit) {
      std::uint64_t const key = ~detail::order_key(logit);
      if (key > least) { least = key; }
    });
    float const stays = detail::from_order_key(~static_cast<std::uint32_t>(c.largest(least)));
    std::uint64_t mass = 0;
    c.for_each_unlisted(keep, from, [&](token_id, float logit) {
      if (logit > stays) { mass += detail::fixed_of(detail::mass_of(logit, best)); }
    });
    mass = c.sum(mass);
    if (mass == 0) { return; }
    double const m = static_cast<double>(mass) / total;
    double const p = static_cast<double>(probability);
    auto const by = static_cast<float>(detail::ln((1 - p) / (1 + detail::product(p, m) / (1 - m))));
    c.edit_unlisted(keep, from, [=](float logit) { return logit > stays ? logit + by : logit; });
  }
};
static_assert(sampler_stage<Xtc>);

}  // namespace tpx::sample
