// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <limits>
#include <span>

namespace tpx {

/// logits become negative + strength * (logits - negative). Where both are equal, and where the
/// negative prompt makes a token impossible, they stay. Of a vocabulary that is cut over ranks each
/// does its part. Source: Ho and Salimans, Classifier-free diffusion guidance (2022,
/// arXiv:2207.12598); differences of logits are those of log-probabilities, up to what a row has in
/// common.
inline void guide(std::span<float> logits, std::span<float const> negative, float strength) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    float const n = negative[i];
    if (logits[i] != n && n > -std::numeric_limits<float>::infinity()) {
      logits[i] = n + strength * (logits[i] - n);
    }
  }
}

}  // namespace tpx
