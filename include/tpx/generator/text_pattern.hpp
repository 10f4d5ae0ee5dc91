// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tpx {

/// What happens where a pattern ends.
enum class text_action : std::uint8_t {
  Stop,   ///< the text ends before it
  Ban,    ///< the tokens from the one in which it began are taken back
  Enter,  ///< what follows belongs to another scope
};

/// A string that is looked for in a text, whatever the borders of its tokens.
struct text_pattern {
  std::string_view text;  // at least one byte
  text_action action = text_action::Stop;
  bool ignore_case = false;                  // of ASCII letters
  std::uint32_t scopes = ~std::uint32_t{0};  // bit s: it is looked for in scope s
  std::uint32_t enters = 0;                  // with Enter: which scope
};

/// What follows such a token is of that scope.
struct scope_token {
  token_id token;
  std::uint32_t scope;
};

/// Scopes that a matcher may have at most: the bits of `text_pattern::scopes`.
inline constexpr std::size_t max_scopes = 32;

}  // namespace tpx
