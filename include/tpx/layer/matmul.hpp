// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/lanes.hpp>
#include <tpx/layer/weight.hpp>

#include <span>

namespace tpx {
namespace detail {

/// Rows r to r + Rows - 1 times Tokens tokens. A sum's order is the same for all tile sizes.
template <std::size_t Rows, std::size_t Tokens>
void matmul_tile(weight_view const& w, std::size_t r, float const* x, float* out,
                 float const* bias) {
  lanes sums[Rows][Tokens] = {};
  std::size_t const whole = w.cols / lane_count * lane_count;
  for (std::size_t c = 0; c < whole; c += lane_count) {
    for (std::size_t i = 0; i < Rows; ++i) {
      lanes weights;
      load(weights, w.row(r + i) + c);
      for (std::size_t t = 0; t < Tokens; ++t) {
        lanes values;
        load(values, x + t * w.cols + c);
        sums[i][t] += weights * values;
      }
    }
  }
  if (whole != w.cols) {
    for (std::size_t i = 0; i < Rows; ++i) {
      lanes weights;
      load(weights, w.row(r + i) + whole, w.cols - whole);
      for (std::size_t t = 0; t < Tokens; ++t) {
        lanes values;
        load(values, x + t * w.cols + whole, w.cols - whole);
        sums[i][t] += weights * values;
      }
    }
  }
  for (std::size_t i = 0; i < Rows; ++i) {
    for (std::size_t t = 0; t < Tokens; ++t) {
      float const total = sum(sums[i][t]);
      out[t * w.rows + r + i] = bias == nullptr ? total : total + bias[r + i];
    }
  }
}

/// All rows, for `tokens` tokens taken Tokens at a time; the rest half as many at a time.
template <std::size_t Tokens>
void matmul_tokens(weight_view const& w, float const* x, std::size_t tokens, float* out,
                   float const* bias) {
  constexpr std::size_t rows_at_once = Tokens > 1 ? 1 : sums_at_once < 4 ? sums_at_once : 4;
  for (; tokens >= Tokens; tokens -= Tokens) {
    std::size_t r = 0;
    for (; r + rows_at_once <= w.rows; r += rows_at_once) {
      matmul_tile<rows_at_once, Tokens>(w, r, x, out, bias);
    }
    for (; r < w.rows; ++r) { matmul_tile<1, Tokens>(w, r, x, out, bias); }
    x += Tokens * w.cols;
    out += Tokens * w.rows;
  }
  if constexpr (Tokens > 1) { matmul_tokens<Tokens / 2>(w, x, tokens, out, bias); }
}

}  // namespace detail

/// out[t, r] = sum over c of w[r, c] x[t, c], and bias[r] where there is a bias.
///
/// Shapes  x: (tokens, w.cols); out: (tokens, w.rows), not overlapping x; bias: (w.rows) or none.
/// Order   sixteen sums of every sixteenth product in fp32, then those by halves, then the bias:
///         the same bits whatever the number of tokens and whichever rows `w` is a slice of.
/// Cost    the weights are read once for 8 tokens with AVX-512 (4 with AVX, else 2), at
/// memory speed for one.
inline void matmul(weight_view const& w, std::span<float const> x, std::span<float> out,
                   std::size_t tokens, std::span<float const> bias = {}) {
  detail::expect_shape("matmul: x", x.size(), tokens, w.cols);
  detail::expect_shape("matmul: out", out.size(), tokens, w.rows);
  if (!bias.empty()) { detail::expect_shape("matmul: bias", bias.size(), 1, w.rows); }
  detail::matmul_tokens<detail::sums_at_once>(w, x.data(), tokens, out.data(),
                                              bias.empty() ? nullptr : bias.data());
}

}  // namespace tpx
