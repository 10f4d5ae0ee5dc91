// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "engine.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace llama {

/// What to generate.
struct request {
  std::vector<std::int32_t> prompt;
  std::size_t tokens;                // at most
  double temperature = 0;            // 0: the likeliest token each time
  std::uint64_t seed = 0;            // the same seed, the same text; of no effect at temperature 0
  std::vector<std::int32_t> ending;  // any of these ends the text
};

/// What came of it, and what it cost. Seconds and counts leave out the prompt and the first token.
struct result {
  std::vector<std::int32_t> tokens;  // an ending token is the last
  std::size_t steps = 0;             // that were counted
  double seconds = 0;
  std::uint64_t collectives = 0;
  double seconds_in_collectives = 0;  // mean over the ranks, waiting included
};

/// Continues `r.prompt`. All ranks call it with the same request and get the same tokens; rank 0
/// calls `each` with every token as it comes.
[[nodiscard]] result generate(tpx::group& g, engine& model, request const& r,
                              std::function<void(std::int32_t)> const& each = {});

/// One token drawn with probability proportional to exp(logits[i] / temperature), from random
/// numbers that depend on (seed, step, i) alone: the Gumbel-max way.
/// Errors  invalid_argument where no logit is finite.
[[nodiscard]] std::int32_t sample(std::span<float const> logits, double temperature,
                                  std::uint64_t seed, std::uint64_t step);

}  // namespace llama
