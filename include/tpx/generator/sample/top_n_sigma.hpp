// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps logits of at least best - n * (their standard deviation). What is 1024 nats or more under
/// the best, as the numbers that models use for -infinity are, does not count.
/// Source: Tang et al., Top-n-sigma: Not All Logits Are You Need (2024), and llama.cpp.
struct TopNSigma {
  static constexpr std::string_view name = "TopNSigma";
  static constexpr bool on_any_space = true;
  float n = 0;  // 0 keeps all

  [[nodiscard]] TPX_HD bool neutral() const { return n == 0; }
  void validate() const { detail::expect_within("TopNSigma: n", n, 0, 1e6); }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    auto const sums = c.depth_moments();
    double const count = static_cast<double>(sums[2]);
    double const mean = static_cast<double>(sums[0]) / count;
    double const variance = static_cast<double>(sums[1]) / count - detail::product(mean, mean);
    double const sigma = 1024 * std::sqrt(variance > 0 ? variance : 0.0);
    c.keep_from(c.best() - static_cast<float>(static_cast<double>(n) * sigma));
  }
};
static_assert(sampler_stage<TopNSigma>);

}  // namespace tpx::sample
