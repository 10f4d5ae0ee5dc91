// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/allreduce.hpp>
#include <tpx/layer/weight.hpp>
#include <tpx/split.hpp>

#include <concepts>
#include <cstdint>
#include <span>
#include <string>

namespace tpx {

/// The vectors of tokens. Under split::All every rank has the whole table and nothing is sent;
/// under split::Vc each has its tokens' rows, which may be those of a tied head, and one allreduce
/// brings them to all.
template <split_target Split>
struct embedding {
  static_assert(std::same_as<Split, split::All> || std::same_as<Split, split::Vc>,
                "an embedding is whole on every rank (All) or cut by vocabulary (Vc)");

  weight_view table;  // (own tokens, hidden)
  shard_range own;    // the tokens that `table` has; under All: [0, vocab)
  std::size_t vocab;  // of all ranks

  /// out: (tokens, hidden), the same on every rank. Errors: invalid_argument for a token outside
  /// [0, vocab), the same on every rank, before anything is sent.
  template <class Comm>
  void operator()(Comm& comm, std::span<std::int32_t const> tokens, std::span<float> out) const {
    std::size_t const hidden = table.cols;
    detail::expect_shape("embedding: out", out.size(), tokens.size(), hidden);
    check(tokens);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      auto const token = static_cast<std::size_t>(tokens[t]);
      float* const to = out.data() + t * hidden;
      if (own.contains(token)) {
        auto const* const row = table.row(token - own.begin);
        for (std::size_t i = 0; i < hidden; ++i) { to[i] = static_cast<float>(row[i]); }
      } else {
        for (std::size_t i = 0; i < hidden; ++i) { to[i] = 0; }
      }
    }
    if constexpr (std::same_as<Split, split::Vc>) {
      allreduce(comm, out.first(tokens.size() * hidden));
    }
  }

  void check(std::span<std::int32_t const> tokens) const {
    for (std::int32_t const token : tokens) {
      if (token < 0 || static_cast<std::size_t>(token) >= vocab) {
        throw error{errc::invalid_argument,
                    "token " + std::to_string(token) + " is not in the vocabulary of " +
                      std::to_string(vocab),
                    {.operation = "embedding", .remedy = "use the model's own tokenizer"}};
      }
    }
  }
};

}  // namespace tpx
