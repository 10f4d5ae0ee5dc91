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
  static constexpr bool on_any_space = true;
  float p = 1;

  [[nodiscard]] TPX_HD bool neutral() const { return p == 1; }
  void validate() const { detail::expect_within("Typical: p", p, 0, 1); }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    // With d = best - logit, -ln p is d + log_total and the entropy is that of the mean d.
    auto const all = c.masses();
    double const depth = static_cast<double>(all.depth) / static_cast<double>(all.mass);
    detail::nearest_first const order{c.best() - static_cast<float>(depth)};
    c.keep_until(order, end_of(c, order, static_cast<double>(p)));
  }
};
static_assert(sampler_stage<Typical>);

}  // namespace tpx::sample
