// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tpx {

/// An index into a model's vocabulary.
using token_id = std::int32_t;

/// What a generator must know of a tokenizer: which bytes each token stands for. Tokens that stand
/// for none (beginning of text, end of turn) have an empty piece.
template <class V>
concept vocabulary = requires(V const& v, token_id token) {
  { v.size() } -> std::convertible_to<std::size_t>;
  { v.piece(token) } -> std::convertible_to<std::string_view>;
};

}  // namespace tpx
