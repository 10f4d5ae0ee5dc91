// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/argmax.hpp>

namespace tpx::sample {

/// Divides the logits by `value`; put it first or last in the chain. 0 keeps the best token alone.
/// Source: exllamav3 SS_Temperature and its presets, which make 0 an argmax.
struct Temperature {
  static constexpr std::string_view name = "Temperature";
  static constexpr bool on_any_space = true;
  float value = 1;

  [[nodiscard]] TPX_HD bool neutral() const { return value == 1; }
  void validate() const {
    if (value != 0) { detail::expect_within("Temperature: value", value, 1e-6, 1e6); }
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    if (value != 0) {
      c.multiply(1 / value);
    } else {
      c.keep_only(Argmax{}.pick(c));
    }
  }
};
static_assert(sampler_stage<Temperature>);

}  // namespace tpx::sample
