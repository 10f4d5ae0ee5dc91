// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps tokens with a probability of at least p times the best one's: logit >= best + ln p.
/// Source: exllamav3 SS_MinP; llama.cpp's rule is the same.
struct MinP {
  static constexpr std::string_view name = "MinP";
  static constexpr bool on_any_space = true;
  float p = 0;

  [[nodiscard]] TPX_HD bool neutral() const { return p == 0; }
  void validate() const { detail::expect_within("MinP: p", p, 0, 1); }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    c.keep_from(c.best() + static_cast<float>(detail::ln(static_cast<double>(p))));
  }
};
static_assert(sampler_stage<MinP>);

}  // namespace tpx::sample
