// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/grammar_chars.hpp>
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

namespace detail {

/// The pieces of some tokens as a tree of their bytes, in one array, each node before those under
/// it.
class byte_trie {
 public:
  struct node {
    std::uint32_t end;    // one past the last node under this one
    std::uint32_t first;  // tokens_[first] on: the tokens that end here, then those under this node
    std::uint16_t depth;  // bytes from the root
    std::uint8_t byte;
  };

  /// `tokens` are sorted by their pieces, none of which is empty or longer than 65,535 bytes.
  template <class Piece>
  byte_trie(std::vector<token_id> tokens, Piece const& piece) : tokens_{std::move(tokens)} {
    std::vector<std::uint32_t> open{0};  // the nodes from the root to the last one
    nodes_.push_back({0, 0, 0, 0});
    std::string_view before;
    for (std::uint32_t t = 0; t < tokens_.size(); ++t) {
      std::string_view const text = piece(tokens_[t]);
      auto const same = static_cast<std::size_t>(
        std::mismatch(text.begin(), text.end(), before.begin(), before.end()).first - text.begin());
      close(open, same);
      for (auto i = same; i < text.size(); ++i) {
        open.push_back(static_cast<std::uint32_t>(nodes_.size()));
        nodes_.push_back(
          {0, t, static_cast<std::uint16_t>(i + 1), static_cast<std::uint8_t>(text[i])});
      }
      before = text;
      depth_ = std::max(depth_, text.size());
    }
    close(open, 0);
    nodes_[0].end = static_cast<std::uint32_t>(nodes_.size());
    nodes_.push_back({0, static_cast<std::uint32_t>(tokens_.size()), 0, 0});
  }

  /// In front, the root.
  [[nodiscard]] std::span<node const> nodes() const { return nodes_; }
  /// The tokens whose pieces end at node `i`.
  [[nodiscard]] std::span<token_id const> tokens(std::uint32_t i) const {
    return std::span{tokens_}.subspan(nodes_[i].first, nodes_[i + 1].first - nodes_[i].first);
  }
  [[nodiscard]] token_id token(std::uint32_t index) const { return tokens_[index]; }
  /// Bytes of the longest piece.
  [[nodiscard]] std::size_t depth() const { return depth_; }

 private:
  void close(std::vector<std::uint32_t>& open, std::size_t depth) {
    for (; open.size() > depth + 1; open.pop_back()) {
      nodes_[open.back()].end = static_cast<std::uint32_t>(nodes_.size());
    }
  }

  std::vector<token_id> tokens_;
  std::vector<node> nodes_;  // and one past the last, for its `first`
  std::size_t depth_ = 0;
};

}  // namespace detail

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
        rest_{not_plain(), [this](token_id t) { return piece(t); }} {}

  [[nodiscard]] std::vector<token_id> sorted() const {
    std::vector<token_id> tokens;
    for (token_id t = 0; static_cast<std::size_t>(t) < size(); ++t) {
      if (!piece(t).empty()) { tokens.push_back(t); }
    }
    std::ranges::sort(tokens, {}, [this](token_id t) { return piece(t); });
    return tokens;
  }

  [[nodiscard]] std::vector<token_id> not_plain() {
    std::vector<token_id> tokens = sorted();
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
