// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/allgather.hpp>
#include <tpx/layer/column_parallel.hpp>
#include <tpx/layer/sharded_logits.hpp>

#include <span>

namespace tpx {

/// The last layer, cut by vocabulary: every rank makes its own tokens' logits. They are gathered,
/// or what is wanted of them is found without gathering: argmax, log_likelihood.
struct sharded_head {
  column_parallel<split::Vc> project;  // (own tokens, hidden)
  shard_range own;                     // which tokens those are

  /// Every rank gets all logits. x: (tokens, hidden); work: (tokens, own); out: (tokens, vocab).
  template <class Comm, class Plan>
  void gather(Comm& comm, Plan const& plan, std::span<float const> x, std::span<float> work,
              std::span<float> out, std::size_t tokens) const {
    project(x, work, tokens);
    allgather<split::Vc>(comm, plan, work.first(tokens * own.size()), out, {.rows = tokens});
  }

  /// The likeliest next token of each of `next.size()` tokens. x: (tokens, hidden); work:
  /// (tokens, own); best: (tokens).
  template <class Comm>
  void greedy(Comm& comm, std::span<float const> x, std::span<float> work,
              std::span<scored_token> best) const {
    project(x, work, best.size());
    argmax(comm, work, own, best);
  }
};

}  // namespace tpx
