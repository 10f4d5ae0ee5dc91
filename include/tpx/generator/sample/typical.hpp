// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/select.hpp>
#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps the tokens whose surprise -ln p is nearest to the entropy, until their probabilities
/// together reach p. Source: Meister et al., Locally Typical Sampling (TACL 2023), and llama.cpp;
/// not exllamav2, which orders by p + ln p.
struct Typical {
  static constexpr std::string_view name = "Typical";
  float p = 1;

  [[nodiscard]] bool neutral() const { return p == 1; }
  void validate() const { detail::expect_within("Typical: p", p, 0, 1); }
  template <class C>
  void apply(C& c) const {
    // With d = best - logit, -ln p is d + log_total and the entropy is that of the mean d.
    float const best = c.best();
    auto const sums =
      c.template fixed_sums<2>([best](auto& x) { detail::mass_and_depth(x, best); });
    double const depth = static_cast<double>(sums[1]) / static_cast<double>(sums[0]);
    detail::nearest_first const order{best - static_cast<float>(depth)};
    detail::selection first{c, order};
    float const end = first.end(static_cast<double>(p));
    c.transform([&](detail::lanes& x, token_id) {
      detail::lanes y = x;
      order.order(y);
      detail::keep(x, y >= end);
    });
  }
};
static_assert(sampler_stage<Typical>);

}  // namespace tpx::sample
