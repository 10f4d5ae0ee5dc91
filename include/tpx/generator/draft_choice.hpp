// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/counter_rng.hpp>
#include <tpx/generator/rejection.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace tpx {

/// A draft model's choice without chance: the first of the greatest logits; -1, which ends the
/// draft, if none is above -inf.
struct greedy_choice {
  [[nodiscard]] token_id operator()(std::span<float const> logits, std::uint64_t, std::uint64_t,
                                    std::vector<candidate>&) const {
    float best = -std::numeric_limits<float>::infinity();
    token_id token = -1;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] > best) {
        best = logits[i];
        token = static_cast<token_id>(i);
      }
    }
    return token;
  }
};

/// A draft model's choice by chance, for true rejection sampling: of its `Top` likeliest tokens at
/// `temperature`. The fewer, the cheaper; the nearer to the target, the more are accepted.
template <std::size_t Top = 16>
struct random_choice {
  float temperature = 1;  // above 0

  /// Appends to `from` what it drew from, in ascending order of tokens.
  [[nodiscard]] token_id operator()(std::span<float const> logits, std::uint64_t seed,
                                    std::uint64_t step, std::vector<candidate>& from) const {
    candidate top[Top + 1];  // the greatest first; one more, to be dropped
    std::size_t count = 0;
    float least = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (!(logits[i] > least)) { continue; }
      auto at = count;
      for (; at > 0 && top[at - 1].weight < logits[i]; --at) { top[at] = top[at - 1]; }
      top[at] = {static_cast<token_id>(i), logits[i]};
      count = std::min(count + 1, Top);
      if (count == Top) { least = top[Top - 1].weight; }
    }
    if (count == 0) { return -1; }
    auto const most = top[0].weight;
    for (std::size_t i = 0; i < count; ++i) {
      top[i].weight = std::exp((top[i].weight - most) / temperature);
    }
    std::span const drawn{from.insert(from.end(), top, top + count), from.end()};
    std::ranges::sort(drawn, {}, &candidate::token);
    return draw(drawn, seed, step, random_use::draft);
  }
};

}  // namespace tpx
