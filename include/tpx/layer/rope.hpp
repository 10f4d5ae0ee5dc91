// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/weight.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace tpx {

/// Turns pairs of a head's values by angles that grow with the position.
///
/// Element i of the first half of a head is paired with element i of the second, as in Hugging
/// Face's rotate_half. Angles are computed in fp64. Source: Su et al., RoFormer (2021,
/// arXiv:2104.09864).
class rope {
 public:
  /// frequencies: (head_dim / 2), radians a position; scaled, where a model scales them.
  rope(std::span<double const> frequencies, std::size_t max_positions)
      : half_{frequencies.size()}, turns_(max_positions * 2 * half_) {
    for (std::size_t p = 0; p < max_positions; ++p) {
      float* const turn = turns_.data() + p * 2 * half_;
      for (std::size_t i = 0; i < half_; ++i) {
        double const angle = static_cast<double>(p) * frequencies[i];
        turn[i] = static_cast<float>(std::cos(angle));
        turn[half_ + i] = static_cast<float>(std::sin(angle));
      }
    }
  }

  /// x: (tokens, heads, head_dim), in place; token t is at position start + t.
  void operator()(std::span<float> x, std::size_t heads, std::size_t start,
                  std::size_t tokens) const {
    detail::expect_shape("rope: x", x.size(), tokens, heads * 2 * half_);
    std::size_t const positions = half_ == 0 ? 0 : turns_.size() / (2 * half_);
    if (start > positions || tokens > positions - start) {
      throw error{errc::invalid_argument, "rope: position " + std::to_string(start + tokens - 1) +
                                            " is past the table's " + std::to_string(positions)};
    }
    float* head = x.data();
    for (std::size_t t = 0; t < tokens; ++t) {
      float const* const cosine = turns_.data() + (start + t) * 2 * half_;
      float const* const sine = cosine + half_;
      for (std::size_t h = 0; h < heads; ++h, head += 2 * half_) {
        for (std::size_t i = 0; i < half_; ++i) {
          float const a = head[i];
          float const b = head[half_ + i];
          head[i] = a * cosine[i] - b * sine[i];
          head[half_ + i] = b * cosine[i] + a * sine[i];
        }
      }
    }
  }

 private:
  std::size_t half_;
  std::vector<float> turns_;  // (positions, {cos, sin}, half)
};

}  // namespace tpx
