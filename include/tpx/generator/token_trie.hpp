// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/byte_trie.hpp>
#include <tpx/generator/char_set.hpp>
#include <tpx/generator/grammar_utf8.hpp>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tpx {

/// A vocabulary's pieces, laid out for grammars: made once, shared by all filters.
///
/// Most tokens are plain text: whole characters that may stand in a JSON string as they are. Where
/// a grammar lets all such text pass, their mask is taken as a whole and only the rest is walked.
class token_trie {
 public:
  /// Copies the pieces: about 40 bytes a token. Throws invalid_argument for a piece over 65,535
  /// bytes.
  template <vocabulary V>
  explicit token_trie(V const& v) : token_trie{pieces_of(v)} {}

  [[nodiscard]] std::size_t size() const { return ends_.size(); }

  [[nodiscard]] std::string_view piece(token_id token) const {
    auto const t = static_cast<std::size_t>(token);
    auto const first = t == 0 ? 0 : ends_[t - 1];
    return std::string_view{text_}.substr(first, ends_[t] - first);
  }

  /// All tokens that have a piece.
  [[nodiscard]] detail::byte_trie const& all() const { return all_; }
  /// Those that are not plain text, or longer than plain_chars.
  [[nodiscard]] detail::byte_trie const& rest() const { return rest_; }
  /// The mask of the others.
  [[nodiscard]] std::span<std::uint32_t const> plain_mask() const { return plain_mask_; }

  static constexpr std::size_t plain_chars = 16;

  [[nodiscard]] static detail::char_set const& plain() {
    static detail::char_set const set{{0x20, 0x21}, {0x23, 0x5b}, {0x5d, detail::last_char}};
    return set;
  }

 private:
  struct pieces {
    std::string text;
    std::vector<std::size_t> ends;
  };

  template <class V>
  static pieces pieces_of(V const& v) {
    pieces all;
    for (std::size_t t = 0; t < static_cast<std::size_t>(v.size()); ++t) {
      std::string_view const piece = v.piece(static_cast<token_id>(t));
      expects(piece.size() <= 0xffff, [&] {
        return "token " + std::to_string(t) + " has " + std::to_string(piece.size()) +
               " bytes, at most 65535 are supported";
      });
      all.text += piece;
      all.ends.push_back(all.text.size());
    }
    return all;
  }

  explicit token_trie(pieces all)
      : text_{std::move(all.text)},
        ends_{std::move(all.ends)},
        plain_mask_(mask_words(size())),
        all_{sorted(), [this](token_id t) { return piece(t); }},
        rest_{not_plain(all_.tokens()), [this](token_id t) { return piece(t); }} {}

  [[nodiscard]] std::vector<token_id> sorted() const {
    std::vector<token_id> tokens;
    for (token_id t = 0; static_cast<std::size_t>(t) < size(); ++t) {
      if (!piece(t).empty()) { tokens.push_back(t); }
    }
    std::ranges::sort(tokens, {}, [this](token_id t) { return piece(t); });
    return tokens;
  }

  [[nodiscard]] std::vector<token_id> not_plain(std::vector<token_id> tokens) {
    std::erase_if(tokens, [this](token_id t) {
      std::size_t at = 0;
      for (std::size_t chars = 0; at < piece(t).size(); ++chars) {
        auto const c = detail::read_char(piece(t), at);
        if (c < 0 || chars == plain_chars || !plain().contains(static_cast<char32_t>(c))) {
          return false;
        }
      }
      mask_allow(plain_mask_, t);
      return true;
    });
    return tokens;
  }

  std::string text_;
  std::vector<std::size_t> ends_;
  std::vector<std::uint32_t> plain_mask_;
  detail::byte_trie all_;
  detail::byte_trie rest_;
};

}  // namespace tpx
