// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

namespace tpx {

/// A token mask is a row of 32-bit words: bit t % 32 of word t / 32 is set where token t is
/// allowed. The layout is that of xgrammar's and llguidance's bitmasks, whose words are int32: see
/// as_mask. Bits past the vocabulary are 0.

/// Words of a mask over `vocab_size` tokens.
[[nodiscard]] constexpr std::size_t mask_words(std::size_t vocab_size) {
  return (vocab_size + 31) / 32;
}

/// A foreign bitmask of int32 words as a mask of this library; the same memory.
template <class Int, std::size_t N>
requires std::same_as<std::remove_const_t<Int>, std::int32_t>
[[nodiscard]] auto as_mask(std::span<Int, N> words) {
  using word = std::conditional_t<std::is_const_v<Int>, std::uint32_t const, std::uint32_t>;
  return std::span<word>{reinterpret_cast<word*>(words.data()), words.size()};
}

[[nodiscard]] constexpr bool mask_allows(std::span<std::uint32_t const> mask, token_id token) {
  auto const t = static_cast<std::uint32_t>(token);
  return t / 32 < mask.size() && (mask[t / 32] >> (t % 32) & 1u) != 0;
}

/// `token` must be one of the mask's.
constexpr void mask_allow(std::span<std::uint32_t> mask, token_id token) {
  auto const t = static_cast<std::uint32_t>(token);
  mask[t / 32] |= 1u << (t % 32);
}

/// `token` must be one of the mask's.
constexpr void mask_forbid(std::span<std::uint32_t> mask, token_id token) {
  auto const t = static_cast<std::uint32_t>(token);
  mask[t / 32] &= ~(1u << (t % 32));
}

/// Allows the tokens from 0 to `vocab_size` - 1 and none past them.
constexpr void mask_allow_all(std::span<std::uint32_t> mask, std::size_t vocab_size) {
  auto const whole = std::min(vocab_size / 32, mask.size());
  std::fill(mask.begin(), mask.end(), 0u);
  std::fill_n(mask.begin(), whole, ~0u);
  if (whole < mask.size()) { mask[whole] = (1u << (vocab_size % 32)) - 1; }
}

/// Leaves in `mask` what `other` allows too. A shorter `other` allows nothing past its end.
constexpr void mask_and(std::span<std::uint32_t> mask, std::span<std::uint32_t const> other) {
  auto const both = std::min(mask.size(), other.size());
  for (std::size_t i = 0; i < both; ++i) { mask[i] &= other[i]; }
  std::fill(mask.begin() + static_cast<std::ptrdiff_t>(both), mask.end(), 0u);
}

/// Whether nothing is allowed. Returns soon after the first word that allows something.
[[nodiscard]] constexpr bool mask_empty(std::span<std::uint32_t const> mask) {
  constexpr std::size_t at_once = 64;  // words, joined by vector instructions
  std::uint32_t any = 0;
  for (std::size_t i = 0; i < mask.size() && any == 0; i += at_once) {
    for (auto const word : mask.subspan(i, std::min(at_once, mask.size() - i))) { any |= word; }
  }
  return any == 0;
}

/// How many tokens are allowed.
[[nodiscard]] constexpr std::size_t mask_count(std::span<std::uint32_t const> mask) {
  std::size_t count = 0;
  for (auto const word : mask) { count += static_cast<std::size_t>(std::popcount(word)); }
  return count;
}

namespace detail {

inline void expect_mask(std::span<std::uint32_t const> mask, std::size_t vocab_size) {
  expects(
    mask.size() == mask_words(vocab_size),
    [&] {
      return "a mask of " + std::to_string(mask.size()) + " words for " +
             std::to_string(vocab_size) + " tokens";
    },
    "give mask_words(vocab_size) words");
}

inline void expect_token(token_id token, std::size_t vocab_size) {
  expects(token >= 0 && static_cast<std::size_t>(token) < vocab_size, [&] {
    return "token " + std::to_string(token) + " is not one of the " + std::to_string(vocab_size) +
           " of the vocabulary";
  });
}

}  // namespace detail

}  // namespace tpx
