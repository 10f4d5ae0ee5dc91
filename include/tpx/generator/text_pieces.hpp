// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tpx {

/// The tokens of a vocabulary in the order of their bytes; those without bytes are left out. Made
/// once a vocabulary, which must outlive it: 128,256 tokens take some 50 ms.
template <vocabulary V>
class text_pieces {
 public:
  explicit text_pieces(V const& vocab) : vocab_{&vocab} {
    sorted_.reserve(vocab_size());
    for (std::size_t i = 0; i < vocab_size(); ++i) {
      auto const token = static_cast<token_id>(i);
      if (!piece(token).empty()) { sorted_.push_back(token); }
    }
    std::sort(sorted_.begin(), sorted_.end(),
              [&](token_id a, token_id b) { return piece(a) < piece(b); });
  }

  [[nodiscard]] std::size_t vocab_size() const { return static_cast<std::size_t>(vocab_->size()); }
  [[nodiscard]] std::span<token_id const> all() const { return sorted_; }

  [[nodiscard]] std::string_view piece(token_id token) const {
    expects(token >= 0 && static_cast<std::size_t>(token) < vocab_size(), [&] {
      return "token " + std::to_string(token) + " of a vocabulary of " +
             std::to_string(vocab_size());
    });
    return vocab_->piece(token);
  }

  /// Those of `tokens`, a part of all(), whose bytes begin with `bytes`; logarithmic.
  [[nodiscard]] std::span<token_id const> beginning_with(std::string_view bytes,
                                                         std::span<token_id const> tokens) const {
    auto const front = [&](token_id token) { return piece(token).substr(0, bytes.size()); };
    auto const begin = std::partition_point(tokens.begin(), tokens.end(),
                                            [&](token_id t) { return front(t) < bytes; });
    auto const end =
      std::partition_point(begin, tokens.end(), [&](token_id t) { return front(t) == bytes; });
    return {begin, end};
  }

  /// Those of `tokens`, which all begin with the same `length` bytes, that have no more.
  [[nodiscard]] std::span<token_id const> no_longer_than(std::size_t length,
                                                         std::span<token_id const> tokens) const {
    return {tokens.begin(), std::partition_point(tokens.begin(), tokens.end(), [&](token_id t) {
              return piece(t).size() <= length;
            })};
  }

  /// Appends to `to` the fewest tokens that spell `bytes`, the first as long as can be; returns
  /// false, and `to` is as it was, if none do. Quadratic in the bytes, each a search.
  [[nodiscard]] bool spell(std::string_view bytes, std::vector<token_id>& to) const {
    struct start {
      std::size_t tokens;  // of the fewest that spell the bytes from here on
      token_id token;      // the first of these
    };
    start const none{bytes.size() + 1, -1};
    std::vector<start> from(bytes.size(), none);
    from.push_back({0, -1});
    for (auto begin = bytes.size(); begin-- > 0;) {
      auto tokens = all();
      for (auto end = begin + 1; end <= bytes.size() && !tokens.empty(); ++end) {
        tokens = beginning_with(bytes.substr(begin, end - begin), tokens);
        auto const here = no_longer_than(end - begin, tokens);
        if (!here.empty() && from[end].tokens < from[begin].tokens) {
          from[begin] = {from[end].tokens + 1, here.front()};
        }
      }
    }
    if (from.front().tokens == none.tokens) { return false; }
    for (std::size_t at = 0; at < bytes.size(); at += piece(to.back()).size()) {
      to.push_back(from[at].token);
    }
    return true;
  }

 private:
  V const* vocab_;
  std::vector<token_id> sorted_;
};

}  // namespace tpx
