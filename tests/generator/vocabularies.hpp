// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// Vocabularies and a plain way to find masks, for the tests of filters.

#include <tpx/generator/grammar_filter.hpp>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/token.hpp>
#include <tpx/generator/token_trie.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace vocabularies {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

using rng = std::minstd_rand;

inline std::size_t below(rng& from, std::size_t bound) {
  return std::uniform_int_distribution<std::size_t>{0, bound - 1}(from);
}

struct pieces {
  std::vector<std::string> all;

  [[nodiscard]] std::size_t size() const { return all.size(); }
  [[nodiscard]] std::string_view piece(tpx::token_id t) const {
    return all[static_cast<std::size_t>(t)];
  }
};

/// Token 0 ends a text, token 1 has no piece; then all bytes, `common`, and words of up to 6 of
/// `units`.
inline pieces some(rng& from, std::vector<std::string> const& units,
                   std::vector<std::string> const& common, std::size_t words) {
  pieces p{{"", ""}};
  for (int b = 0; b < 256; ++b) { p.all.emplace_back(1, static_cast<char>(b)); }
  p.all.insert(p.all.end(), common.begin(), common.end());
  for (std::size_t i = 0; i < words; ++i) {
    std::string word;
    for (auto n = 1 + below(from, 6); n > 0; --n) { word += units[below(from, units.size())]; }
    p.all.push_back(word);
  }
  return p;
}

/// What a filter would say, asked token by token.
template <class Filter>
std::vector<std::uint32_t> brute_mask(Filter const& filter, std::size_t vocab_size) {
  std::vector<std::uint32_t> mask(tpx::mask_words(vocab_size));
  auto copy = filter;
  for (std::size_t t = 0; t < vocab_size; ++t) {
    try {
      copy.accept(static_cast<tpx::token_id>(t));
    } catch (tpx::error const&) { continue; }
    tpx::mask_allow(mask, static_cast<tpx::token_id>(t));
    copy.rewind(1);
  }
  return mask;
}

template <class Filter>
std::vector<std::uint32_t> mask_of(Filter& filter, std::size_t vocab_size) {
  std::vector<std::uint32_t> mask(tpx::mask_words(vocab_size), 0xdeadbeef);
  filter.fill(mask);
  return mask;
}

/// A token that the mask allows; -1 where there is none.
inline tpx::token_id any_of(std::vector<std::uint32_t> const& mask, rng& from) {
  auto const count = tpx::mask_count(mask);
  if (count == 0) { return -1; }
  auto left = below(from, count);
  for (tpx::token_id t = 0;; ++t) {
    if (tpx::mask_allows(mask, t) && left-- == 0) { return t; }
  }
}

/// `text` as tokens, each of which is any that fits there.
inline std::vector<tpx::token_id> tokenised(std::string_view text, pieces const& vocabulary,
                                            rng& from) {
  std::vector<tpx::token_id> tokens;
  while (!text.empty()) {
    std::vector<tpx::token_id> fit;
    for (std::size_t t = 0; t < vocabulary.size(); ++t) {
      auto const piece = vocabulary.piece(static_cast<tpx::token_id>(t));
      if (!piece.empty() && text.starts_with(piece)) {
        fit.push_back(static_cast<tpx::token_id>(t));
      }
    }
    tokens.push_back(fit[below(from, fit.size())]);
    text.remove_prefix(vocabulary.piece(tokens.back()).size());
  }
  return tokens;
}

}  // namespace vocabularies
