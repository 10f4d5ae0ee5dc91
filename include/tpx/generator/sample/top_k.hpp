// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/select.hpp>
#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps the k largest logits, and what is equal to the last of them; k = 0 keeps all.
/// Source: exllamav3 SS_TopK, ties as in SS_Fused.
struct TopK {
  static constexpr std::string_view name = "TopK";
  static constexpr bool on_any_space = true;
  int k = 0;

  [[nodiscard]] TPX_HD bool neutral() const { return k == 0; }
  void validate() const { detail::expect_within("TopK: k", k, 0, 1 << 30); }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    c.keep_from(end_of(c, detail::largest_first{}, static_cast<std::uint64_t>(k)));
  }
};
static_assert(sampler_stage<TopK>);

}  // namespace tpx::sample
