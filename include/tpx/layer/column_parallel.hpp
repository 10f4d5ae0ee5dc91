// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/matmul.hpp>
#include <tpx/split.hpp>

#include <span>

namespace tpx {

/// A linear layer whose output features are cut by `Split`: every rank has all of the input and
/// makes its own features. Nothing is sent.
///
/// Source: Megatron-LM (Shoeybi et al. 2019, arXiv:1909.08053), section 3.
template <split_kind Split>
struct column_parallel {
  weight_view weight;                // (own features, inputs)
  std::span<float const> bias = {};  // (own features), or none

  /// x: (tokens, inputs), the same on every rank; out: (tokens, own features).
  void operator()(std::span<float const> x, std::span<float> out, std::size_t tokens) const {
    matmul(weight, x, out, tokens, bias);
  }
};

}  // namespace tpx
