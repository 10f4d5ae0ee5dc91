// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// A temperature between `low` and `high` by how even the distribution is:
/// low + (high - low) * (entropy / ln candidates)^exponent.
/// Source: exllamav2 post_softmax_temperature.
struct DynamicTemperature {
  static constexpr std::string_view name = "DynamicTemperature";
  static constexpr bool on_any_space = true;
  float low = 1;
  float high = 1;
  float exponent = 1;

  [[nodiscard]] TPX_HD bool neutral() const { return low == 1 && high == 1; }
  void validate() const {
    detail::expect_within("DynamicTemperature: low", low, 1e-6, 1e6);
    detail::expect_within("DynamicTemperature: high", high, low, 1e6);
    detail::expect_within("DynamicTemperature: exponent", exponent, 0, 1e3);
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    auto const all = c.masses();
    double const total = static_cast<double>(all.mass);
    double const entropy =
      detail::ln(total / detail::fixed_one) + static_cast<double>(all.depth) / total;
    double const most = detail::ln(static_cast<double>(all.count));
    double const share = most > 0 ? entropy / most : 0.0;
    double const even = share < 0 ? 0.0 : share < 1 ? share : 1.0;
    double const range = static_cast<double>(high) - static_cast<double>(low);
    double const t = static_cast<double>(low) +
                     detail::product(range, std::pow(even, static_cast<double>(exponent)));
    c.multiply(static_cast<float>(1 / t));
  }
};
static_assert(sampler_stage<DynamicTemperature>);

}  // namespace tpx::sample
