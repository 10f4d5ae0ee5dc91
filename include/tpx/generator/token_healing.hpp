// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/text_pieces.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tpx {

/// Mends the border between a prompt and what follows: the prompt's last tokens are dropped, and
/// the next tokens must begin with their bytes. A prompt that ends in "http:" can then go on with
/// the token "://", which the tokenizer would have taken.
///
/// A filter: its mask has bit t % 32 of word t / 32 set where token t may come. Tokens that are a
/// beginning of what is left may come too if others can spell the rest, so that healing may take
/// several tokens. When it is finished everything may come.
///
///   token_healing healing{pieces, prompt};
///   prompt.resize(healing.kept());
///   // for each token: sample under the mask, then
///   stream.push(token, vocab.piece(token).substr(healing.repeated(token)));
///   healing.accept(token);
template <vocabulary V>
class token_healing {
 public:
  /// Drops `count` tokens, and up to three more if a character would be cut. Keeps the prompt's
  /// first token, and whatever stands before or at a token without bytes.
  token_healing(text_pieces<V> const& pieces, std::span<token_id const> prompt,
                std::size_t count = 1)
      : pieces_{&pieces}, kept_{prompt.size()} {
    for (std::size_t dropped = 0; kept_ > 1 && dropped < count + 3; ++dropped) {
      if (dropped >= count && !cuts_character()) { break; }
      auto const piece = pieces.piece(prompt[kept_ - 1]);
      if (piece.empty()) { break; }
      prefix_.insert(0, piece);
      --kept_;
    }
    spelled_.assign(prefix_.size() + 1, true);
    for (std::size_t from = prefix_.size(); from-- > 0;) {
      spelled_[from] = false;
      spell(from, [&](std::span<token_id const> tokens) {
        spelled_[from] = spelled_[from] || !tokens.empty();
      });
    }
    accepted_.reserve(prefix_.size());
  }

  [[nodiscard]] std::size_t kept() const { return kept_; }           // tokens of the prompt
  [[nodiscard]] std::string_view prefix() const { return prefix_; }  // bytes of the others
  /// Bytes of the prefix that have not come yet.
  [[nodiscard]] std::string_view left() const { return prefix().substr(at_); }
  [[nodiscard]] bool finished() const { return at_ == prefix_.size(); }

  /// How many bytes at the front of `token`, if it came next, are the prompt's.
  [[nodiscard]] std::size_t repeated(token_id token) const {
    return std::min(pieces_->piece(token).size(), left().size());
  }

  /// Writes all words of the mask, which must have a bit for every token. Costs the mask and
  /// the tokens that may come.
  void fill(std::span<std::uint32_t> mask) const {
    auto const size = pieces_->vocab_size();
    expects(mask.size() >= (size + 31) / 32, [&] {
      return "a mask of " + std::to_string(mask.size()) + " words for " + std::to_string(size) +
             " tokens";
    });
    std::fill(mask.begin(), mask.end(), 0u);
    if (finished()) {
      std::fill_n(mask.begin(), size / 32, ~0u);
      if (size % 32 != 0) { mask[size / 32] = (1u << (size % 32)) - 1; }
      return;
    }
    spell(at_, [&](std::span<token_id const> tokens) {
      for (auto const token : tokens) {
        auto const t = static_cast<std::size_t>(token);
        mask[t / 32] |= 1u << (t % 32);
      }
    });
  }

  /// Throws invalid_argument for a token that the mask forbids.
  void accept(token_id token) {
    if (finished()) {
      ++after_;
      return;
    }
    auto const n = repeated(token);
    expects(n > 0 &&
              pieces_->piece(token).substr(0, n) == std::string_view{prefix_}.substr(at_, n) &&
              spelled_[at_ + n],
            [&] {
              return "token " + std::to_string(token) +
                     " does not go on with the prompt's end, \"" + prefix_.substr(at_) + '"';
            });
    accepted_.push_back(at_);
    at_ += n;
  }

  void rewind(std::size_t count) {
    expects(count <= after_ + accepted_.size(), [&] {
      return "a rewind by " + std::to_string(count) + " of " +
             std::to_string(after_ + accepted_.size()) + " tokens";
    });
    auto const free = std::min(count, after_);
    after_ -= free;
    if (count == free) { return; }
    auto const left = accepted_.size() - (count - free);
    at_ = accepted_[left];
    accepted_.resize(left);
  }

 private:
  [[nodiscard]] bool cuts_character() const {
    return !prefix_.empty() && (static_cast<unsigned char>(prefix_[0]) & 0xc0) == 0x80;
  }

  /// Visits the tokens that may come at byte `from`.
  template <class Visit>
  void spell(std::size_t from, Visit visit) const {
    auto tokens = pieces_->all();
    for (std::size_t to = from + 1; to <= prefix_.size() && !tokens.empty(); ++to) {
      auto const bytes = std::string_view{prefix_}.substr(from, to - from);
      tokens = pieces_->beginning_with(bytes, tokens);
      if (to == prefix_.size()) {
        visit(tokens);
      } else if (spelled_[to]) {
        visit(pieces_->no_longer_than(bytes.size(), tokens));
      }
    }
  }

  text_pieces<V> const* pieces_;
  std::size_t kept_;
  std::string prefix_;
  std::vector<bool> spelled_;          // whether tokens can spell the prefix from a byte on
  std::size_t at_ = 0;                 // bytes of the prefix that have come
  std::vector<std::size_t> accepted_;  // at_ before each token that healed
  std::size_t after_ = 0;              // tokens since
};

}  // namespace tpx
