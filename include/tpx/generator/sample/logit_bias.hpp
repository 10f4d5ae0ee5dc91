// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

struct token_bias {
  token_id token;
  float bias;
};

/// Adds to the logits of some tokens; -infinity bans a token. 0, NaN, +infinity and tokens out of
/// the vocabulary are passed over. Source: exllamav3 LogitBias.
struct LogitBias {
  static constexpr std::string_view name = "LogitBias";
  std::span<token_bias const> biases = {};  // the caller's

  [[nodiscard]] bool neutral() const { return biases.empty(); }
  template <class F>
  void spans(F f) {
    f(biases);
  }
  void validate() const {}
  template <class C>
  void apply(C& c) const {
    c.settle();
    for (auto const& [token, bias] : biases) {
      if (bias == 0 || !(bias <= std::numeric_limits<float>::max())) { continue; }
      c.edit(token, [bias = bias](float logit) { return logit + bias; });
    }
  }
};
static_assert(sampler_stage<LogitBias>);

}  // namespace tpx::sample
