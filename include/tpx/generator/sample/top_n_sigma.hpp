// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps logits of at least best - n * (their standard deviation). What is 1024 nats or more under
/// the best, as the numbers that models use for -infinity are, does not count.
/// Source: Tang et al., Top-n-sigma: Not All Logits Are You Need (2024), and llama.cpp.
struct TopNSigma {
  static constexpr std::string_view name = "TopNSigma";
  float n = 0;  // 0 keeps all

  [[nodiscard]] bool neutral() const { return n == 0; }
  void validate() const { detail::expect_within("TopNSigma: n", n, 0, 1e6); }
  template <class C>
  void apply(C& c) const {
    float const best = c.best();
    auto const sums = c.template fixed_sums<3>([best](auto& x) {
      constexpr float unit = 0x1p-10f;
      detail::lanes const depth = (best - x[0]) * unit;
      x[2] = detail::convert<float>(-(depth < 1.0f));
      x[0] = depth;
      detail::keep_or_zero(x[0], depth < 1.0f);
      x[1] = x[0] * x[0];
    });
    double const count = static_cast<double>(sums[2]);
    double const mean = static_cast<double>(sums[0]) / count;
    double const variance = static_cast<double>(sums[1]) / count - mean * mean;
    double const sigma = 1024 * std::sqrt(std::max(variance, 0.0));
    c.keep_from(best - static_cast<float>(static_cast<double>(n) * sigma));
  }
};
static_assert(sampler_stage<TopNSigma>);

}  // namespace tpx::sample
