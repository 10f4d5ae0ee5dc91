// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/mask.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tpx {

/// A filter of fixed sets of tokens: one for all positions (the text may end anywhere), or one a
/// position (it is whole after the last).
class allowed_tokens {
 public:
  using set = std::vector<token_id>;

  /// Throws invalid_argument for a token that is not below `vocab_size`.
  allowed_tokens(std::size_t vocab_size, set const& everywhere, set end_tokens = {})
      : allowed_tokens{vocab_size, std::vector<set>{everywhere}, std::move(end_tokens), true} {}

  /// The same. `positions[i]` may come as the i-th token.
  [[nodiscard]] static allowed_tokens at_positions(std::size_t vocab_size,
                                                   std::vector<set> const& positions,
                                                   set end_tokens = {}) {
    return {vocab_size, positions, std::move(end_tokens), false};
  }

  void fill(std::span<std::uint32_t> mask) const {
    detail::expect_mask(mask, vocab_size_);
    auto const allowed = here();
    std::copy(allowed.begin(), allowed.end(), mask.begin());
    std::fill(mask.begin() + static_cast<std::ptrdiff_t>(allowed.size()), mask.end(), 0u);
    for (auto const end : end_tokens_) {
      finished() ? mask_allow(mask, end) : mask_forbid(mask, end);
    }
  }

  void accept(token_id token) {
    detail::expect_token(token, vocab_size_);
    bool const ends = std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end();
    expects(ends ? finished() : mask_allows(here(), token), [&] {
      return "token " + std::to_string(token) + " is not allowed at position " +
             std::to_string(accepted_);
    });
    ++accepted_;
  }

  void rewind(std::size_t tokens) {
    expects(tokens <= accepted_, "fewer tokens were accepted than are to be taken back");
    accepted_ -= tokens;
  }

  [[nodiscard]] bool finished() const { return everywhere_ || accepted_ >= positions_; }

 private:
  allowed_tokens(std::size_t vocab_size, std::vector<set> const& positions, set end_tokens,
                 bool everywhere)
      : vocab_size_{vocab_size},
        positions_{positions.size()},
        masks_(positions.size() * mask_words(vocab_size)),
        end_tokens_{std::move(end_tokens)},
        everywhere_{everywhere} {
    for (auto const end : end_tokens_) { detail::expect_token(end, vocab_size_); }
    for (auto const& tokens : positions) {
      auto const words = mask_words(vocab_size_);
      auto const mask = std::span{masks_}.subspan(accepted_++ * words, words);
      for (auto const token : tokens) {
        detail::expect_token(token, vocab_size_);
        mask_allow(mask, token);
      }
    }
    accepted_ = 0;
  }

  /// What may come next but for end tokens; empty past the last position.
  [[nodiscard]] std::span<std::uint32_t const> here() const {
    auto const at = everywhere_ ? 0 : accepted_;
    if (at >= positions_) { return {}; }
    auto const words = mask_words(vocab_size_);
    return std::span{masks_}.subspan(at * words, words);
  }

  std::size_t vocab_size_;
  std::size_t positions_;
  std::vector<std::uint32_t> masks_;  // (positions, words)
  set end_tokens_;
  bool everywhere_;
  std::size_t accepted_ = 0;
};

}  // namespace tpx
