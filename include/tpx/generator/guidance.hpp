// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/chunk.hpp>

#include <cstddef>
#include <span>

namespace tpx {
namespace detail {

[[nodiscard]] TPX_HD inline float guided_logit(float logit, float negative, float strength) {
  bool const same = logit == negative || !(negative > no_logit);
  return same ? logit : negative + product(strength, logit - negative);
}

}  // namespace detail

/// logits become negative + strength * (logits - negative). Where both are equal, and where the
/// negative prompt makes a token impossible, they stay. Of a vocabulary that is cut over ranks each
/// does its part. Source: Ho and Salimans, Classifier-free diffusion guidance (2022,
/// arXiv:2207.12598); differences of logits are those of log-probabilities, up to what a row has in
/// common.
inline void guide(std::span<float> logits, std::span<float const> negative, float strength) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = detail::guided_logit(logits[i], negative[i], strength);
  }
}

}  // namespace tpx
