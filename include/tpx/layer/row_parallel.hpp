// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/allreduce.hpp>
#include <tpx/layer/matmul.hpp>
#include <tpx/split.hpp>

#include <span>

namespace tpx {

/// A linear layer whose inputs are cut by `Split`: every rank multiplies its own inputs, and one
/// allreduce adds what they made. A rank without inputs adds zeros.
///
/// Source: Megatron-LM (Shoeybi et al. 2019, arXiv:1909.08053), section 3.
template <split_kind Split>
struct row_parallel {
  static_assert(Split::joined_by == split::join::reduce,
                "a row-parallel layer adds up what the ranks have: its split is Q or Id");

  weight_view weight;                // (features, own inputs)
  std::span<float const> bias = {};  // (features) on every rank, or none; added once

  /// x: (tokens, own inputs); out: (tokens, features), the same bits on every rank.
  template <class Comm>
  void operator()(Comm& comm, std::span<float const> x, std::span<float> out,
                  std::size_t tokens) const {
    auto const sums = partial(comm.rank(), x, out, tokens);
    allreduce(comm, sums);
  }

  /// Adds the result to `residual`, (tokens, features), the same on every rank, in the allreduce's
  /// own pass. work: (tokens, features).
  template <class Comm>
  void add_to(Comm& comm, std::span<float const> x, std::span<float> residual,
              std::span<float> work, std::size_t tokens) const {
    detail::expect_shape("row_parallel: residual", residual.size(), tokens, weight.rows);
    auto const sums = partial(comm.rank(), x, work, tokens);
    auto const stream = residual.first(sums.size());
    allreduce(comm, sums, stream, Sum{}, add_residual{stream.data()});
  }

 private:
  std::span<float> partial(int rank, std::span<float const> x, std::span<float> out,
                           std::size_t tokens) const {
    matmul(weight, x, out, tokens, rank == 0 ? bias : std::span<float const>{});
    return out.first(tokens * weight.rows);
  }
};

}  // namespace tpx
