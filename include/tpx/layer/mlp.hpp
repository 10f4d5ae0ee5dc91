// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/column_parallel.hpp>
#include <tpx/layer/row_parallel.hpp>
#include <tpx/layer/workspace.hpp>

#include <span>

namespace tpx {

/// gate becomes silu(gate) * up, where silu(z) = z / (1 + e^-z). Both: (n).
inline void silu_times(std::span<float> gate, std::span<float const> up) {
  detail::expect_shape("silu_times: up", up.size(), 1, gate.size());
  for (std::size_t i = 0; i < gate.size(); i += detail::lane_count) {
    std::size_t const some = gate.size() - i;
    detail::lanes z;
    detail::lanes u;
    if (some >= detail::lane_count) {
      detail::load(z, gate.data() + i);
      detail::load(u, up.data() + i);
    } else {
      detail::load(z, gate.data() + i, some);
      detail::load(u, up.data() + i, some);
    }
    detail::lanes e = -z;
    detail::exp(e);
    z = z / (1.0f + e) * u;
    detail::store(gate.data() + i, z, some < detail::lane_count ? some : detail::lane_count);
  }
}

/// The SwiGLU MLP with this rank's columns: down(silu(gate x) * up x), added to the residual stream
/// by down's allreduce. A rank without columns joins that.
///
/// Source: Shazeer, GLU Variants Improve Transformer (2020, arXiv:2002.05202).
struct mlp {
  column_parallel<split::Id> gate;  // (own columns, hidden)
  column_parallel<split::Id> up;    // (own columns, hidden)
  row_parallel<split::Id> down;     // (hidden, own columns)

  /// Floats of workspace for up to `tokens` at once.
  [[nodiscard]] std::size_t floats_needed(std::size_t tokens) const {
    return 2 * workspace::rounded(tokens * gate.weight.rows) +
           workspace::rounded(tokens * down.weight.rows);
  }

  /// residual += mlp(x). x, residual: (tokens, hidden), the same on every rank.
  template <class Comm>
  void add_to(Comm& comm, std::span<float const> x, std::span<float> residual, std::size_t tokens,
              workspace& memory) const {
    workspace::frame frame{memory};
    auto const gated = frame.take(tokens * gate.weight.rows);
    auto const other = frame.take(tokens * up.weight.rows);
    gate(x, gated, tokens);
    up(x, other, tokens);
    silu_times(gated, other);
    down.add_to(comm, gated, residual, frame.take(tokens * down.weight.rows), tokens);
  }
};

}  // namespace tpx
