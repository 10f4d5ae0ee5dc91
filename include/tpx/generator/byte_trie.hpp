// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

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
  /// All, sorted by their pieces.
  [[nodiscard]] std::vector<token_id> const& tokens() const { return tokens_; }
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

}  // namespace tpx::detail
