// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>

#include <span>

namespace tpx {

/// A token that may be chosen, with its weight.
struct candidate {
  token_id token;
  float weight;
};

/// A distribution over tokens: candidates in ascending order of tokens, each in proportion to its
/// weight; a token that is not among them has none.
using token_distribution = std::span<candidate const>;

}  // namespace tpx
