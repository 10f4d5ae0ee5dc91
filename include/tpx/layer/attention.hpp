// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/column_parallel.hpp>
#include <tpx/layer/paged_attention.hpp>
#include <tpx/layer/rope.hpp>
#include <tpx/layer/row_parallel.hpp>
#include <tpx/layer/workspace.hpp>

#include <cstdint>
#include <span>

namespace tpx {

/// Where one sequence's tokens of a step stand: its pages, and the first token's position.
struct sequence_view {
  std::span<std::uint32_t const> table;  // pages, as for paged_cache
  std::size_t start = 0;
  std::size_t tokens = 1;
};

/// Self-attention with this rank's heads: projections, rotation, cache, attention, and the output
/// projection, whose allreduce adds it to the residual stream. A rank without heads joins that.
struct attention {
  head_range heads;
  column_parallel<split::Q> q;   // (own query heads * head_dim, hidden)
  column_parallel<split::Kv> k;  // (own kv heads * head_dim, hidden)
  column_parallel<split::Kv> v;  // (own kv heads * head_dim, hidden)
  row_parallel<split::Q> o;      // (hidden, own query heads * head_dim)

  /// Floats of workspace for up to `tokens` at once in sequences of up to `positions`.
  [[nodiscard]] std::size_t floats_needed(std::size_t tokens, std::size_t positions) const {
    return 2 * workspace::rounded(tokens * heads.query_columns()) +
           2 * workspace::rounded(tokens * heads.kv_columns()) +
           workspace::rounded(attention_scratch(positions)) +
           workspace::rounded(tokens * o.weight.rows);
  }

  /// residual += attention(x), for the tokens of several sequences at once, one after the other in
  /// x. x, residual: (tokens of all, hidden), the same on every rank.
  template <class Comm, class Cache>
  void add_to(Comm& comm, Cache& cache, rope const& turn, std::span<sequence_view const> all,
              std::span<float const> x, std::span<float> residual, workspace& memory) const {
    workspace::frame frame{memory};
    std::size_t n = 0;
    for (auto const& at : all) { n += at.tokens; }
    auto const queries = frame.take(n * heads.query_columns());
    auto const mixed = frame.take(n * heads.query_columns());
    if (!heads.query.empty()) {
      auto const keys = frame.take(n * heads.kv_columns());
      auto const values = frame.take(n * heads.kv_columns());
      q(x, queries, n);
      k(x, keys, n);
      v(x, values, n);
      std::size_t first = 0;
      for (auto const& at : all) {
        workspace::frame inner{memory};
        auto const rows = [&](std::span<float> of, std::size_t columns) {
          return of.subspan(first * columns, at.tokens * columns);
        };
        auto const own_q = rows(queries, heads.query_columns());
        auto const own_k = rows(keys, heads.kv_columns());
        turn(own_q, heads.query.size(), at.start, at.tokens);
        turn(own_k, heads.kv.size(), at.start, at.tokens);
        cache.put(at.table, at.start, at.tokens, own_k, rows(values, heads.kv_columns()));
        paged_attention(cache, at.table, heads, at.start, at.tokens, own_q,
                        rows(mixed, heads.query_columns()),
                        inner.take(attention_scratch(at.start + at.tokens)));
        first += at.tokens;
      }
    }
    o.add_to(comm, mixed, residual, frame.take(n * o.weight.rows), n);
  }
};

}  // namespace tpx
