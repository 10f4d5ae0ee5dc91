// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// What the fuzz targets of filters share: a vocabulary, small limits, and a text followed through.

#include "fuzz.hpp"

#include <tpx/generator/grammar_filter.hpp>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/token_trie.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

struct pieces {
  std::vector<std::string> all;

  [[nodiscard]] std::size_t size() const { return all.size(); }
  [[nodiscard]] std::string_view piece(tpx::token_id t) const {
    return all[static_cast<std::size_t>(t)];
  }
};

/// Token b is byte b; 256 is the end; then some longer ones.
inline std::shared_ptr<tpx::token_trie const> const& trie() {
  static auto const made = [] {
    pieces p;
    for (int b = 0; b < 256; ++b) { p.all.emplace_back(1, static_cast<char>(b)); }
    for (auto const* const word : {"", "ab", "aaaa", "\"}", "\":", "[{\"", "}}]", "null", "\\u00",
                                   "\xc3\xa9", "\xa9 a", "12", "1.", ", \"", "true}"}) {
      p.all.emplace_back(word);
    }
    return std::make_shared<tpx::token_trie const>(p);
  }();
  return made;
}

inline tpx::grammar_options tight() {
  return {.end_tokens = {256}, .max_states = 3000, .max_bytes = 300'000};
}

/// Offers a text byte by byte; the masks must say beforehand what is taken.
inline void follow(tpx::grammar_filter& filter, std::string_view text) {
  std::vector<std::uint32_t> mask(tpx::mask_words(trie()->size()));
  std::vector<std::uint32_t> again(mask.size());
  text = text.substr(0, 40);
  std::size_t taken = 0;
  for (char const c : text) {
    auto const token = static_cast<tpx::token_id>(static_cast<unsigned char>(c));
    filter.fill(mask);
    must(tpx::mask_allows(mask, 256) == filter.finished(), "the end may come where it is the end");
    must(filter.finished() || !tpx::mask_empty(mask), "a text can always go on to its end");
    try {
      filter.accept(token);
    } catch (tpx::error const&) {
      must(!tpx::mask_allows(mask, token), "what the mask allows is taken");
      continue;
    }
    must(tpx::mask_allows(mask, token), "what is taken the mask allows");
    ++taken;
    if (taken % 5 == 0) {
      filter.rewind(1);
      filter.fill(again);
      must(again == mask, "going back undoes a token");
      filter.accept(token);
    }
    must(filter.grammar().bytes() < 40u << 20, "memory is bounded");
  }
  filter.rewind(taken);
}

}  // namespace fuzz
