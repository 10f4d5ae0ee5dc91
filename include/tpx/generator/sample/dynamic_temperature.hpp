// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// A temperature between `low` and `high` by how even the distribution is:
/// low + (high - low) * (entropy / ln candidates)^exponent.
/// Source: exllamav2 post_softmax_temperature.
struct DynamicTemperature {
  static constexpr std::string_view name = "DynamicTemperature";
  float low = 1;
  float high = 1;
  float exponent = 1;

  [[nodiscard]] bool neutral() const { return low == 1 && high == 1; }
  void validate() const {
    detail::expect_within("DynamicTemperature: low", low, 1e-6, 1e6);
    detail::expect_within("DynamicTemperature: high", high, low, 1e6);
    detail::expect_within("DynamicTemperature: exponent", exponent, 0, 1e3);
  }
  template <class C>
  void apply(C& c) const {
    float const best = c.best();
    auto const sums = c.template fixed_sums<3>([best](auto& x) {
      x[2] = detail::convert<float>(-(x[0] > detail::no_logit));
      detail::mass_and_depth(x, best);
    });
    double const total = static_cast<double>(sums[0]);
    double const entropy =
      std::log(total / detail::fixed_one) + static_cast<double>(sums[1]) / total;
    double const most = std::log(static_cast<double>(sums[2] >> 40));
    double const even = most > 0 ? std::clamp(entropy / most, 0.0, 1.0) : 0.0;
    double const range = static_cast<double>(high) - static_cast<double>(low);
    double const t =
      static_cast<double>(low) + range * std::pow(even, static_cast<double>(exponent));
    c.multiply(static_cast<float>(1 / t));
  }
};
static_assert(sampler_stage<DynamicTemperature>);

}  // namespace tpx::sample
