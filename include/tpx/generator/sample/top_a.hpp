// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps tokens with a probability of at least a * (the best one's)^2.
/// Source: exllamav2 top_a_cpu.
struct TopA {
  static constexpr std::string_view name = "TopA";
  static constexpr bool on_any_space = true;
  float a = 0;

  [[nodiscard]] TPX_HD bool neutral() const { return a == 0; }
  void validate() const { detail::expect_within("TopA: a", a, 0, 1); }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    c.keep_from(c.best() + static_cast<float>(detail::ln(static_cast<double>(a)) - c.log_total()));
  }
};
static_assert(sampler_stage<TopA>);

}  // namespace tpx::sample
