// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

struct token_bias {
  token_id token;
  float bias;
};

/// Adds to the logits of some tokens; -infinity bans a token. 0, NaN, +infinity and tokens out of
/// the vocabulary are passed over; on a GPU no token may be there twice. Source: exllamav3
/// LogitBias.
struct LogitBias {
  static constexpr std::string_view name = "LogitBias";
  static constexpr bool on_any_space = true;
  std::span<token_bias const> biases = {};  // the caller's

  [[nodiscard]] TPX_HD bool neutral() const {
#if defined(__CUDA_ARCH__)
    return false;  // std::span is of the CPU, and an empty list changes nothing
#else
    return biases.empty();
#endif
  }
  template <class F>
  void spans(F f) {
    f(biases);
  }
  void validate() const {}
  [[nodiscard]] static bool counts(token_bias const& b) {
    return b.bias != 0 && b.bias <= std::numeric_limits<float>::max();
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    c.edit_listed(*this, [](float logit, float bias) { return logit + bias; });
  }
};
static_assert(sampler_stage<LogitBias>);

}  // namespace tpx::sample
