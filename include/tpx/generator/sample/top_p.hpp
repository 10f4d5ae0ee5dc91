// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/select.hpp>
#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps the likeliest tokens whose probabilities together are at most p, and always the best: the
/// token that would pass p is dropped, as are those equal to it unless the first of them fits.
/// Source: exllamav3 SS_TopP, ties as in SS_Fused. (llama.cpp keeps the token that passes p.)
struct TopP {
  static constexpr std::string_view name = "TopP";
  static constexpr bool on_any_space = true;
  float p = 1;

  [[nodiscard]] TPX_HD bool neutral() const { return p == 1; }
  void validate() const { detail::expect_within("TopP: p", p, 0, 1); }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    c.keep_from(end_of(c, detail::likeliest_first{}, static_cast<double>(p)));
  }
};
static_assert(sampler_stage<TopP>);

}  // namespace tpx::sample
