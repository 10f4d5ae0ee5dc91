// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/lanes.hpp>
#include <tpx/layer/weight.hpp>

#include <cmath>
#include <span>

namespace tpx {

/// out = x / sqrt(mean(x^2) + epsilon) * weight, token by token.
///
/// Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019, arXiv:1910.07467).
struct rms_norm {
  std::span<float const> weight;  // (hidden)
  float epsilon = 1e-5f;

  /// x, out: (tokens, hidden); out may be x.
  void operator()(std::span<float const> x, std::span<float> out, std::size_t tokens) const {
    std::size_t const hidden = weight.size();
    detail::expect_shape("rms_norm: x", x.size(), tokens, hidden);
    detail::expect_shape("rms_norm: out", out.size(), tokens, hidden);
    for (std::size_t t = 0; t < tokens; ++t) {
      auto const* const in = x.data() + t * hidden;
      auto* const to = out.data() + t * hidden;
      float const mean = square_sum(in, hidden) / static_cast<float>(hidden);
      float const scale = 1.0f / std::sqrt(mean + epsilon);
      for (std::size_t i = 0; i < hidden; ++i) { to[i] = in[i] * scale * weight[i]; }
    }
  }

 private:
  static float square_sum(float const* x, std::size_t n) {
    detail::lanes total = {};
    for (std::size_t i = 0; i < n; i += detail::lane_count) {
      detail::lanes v;
      if (n - i >= detail::lane_count) {
        detail::load(v, x + i);
      } else {
        detail::load(v, x + i, n - i);
      }
      total += v * v;
    }
    return detail::sum(total);
  }
};

}  // namespace tpx
