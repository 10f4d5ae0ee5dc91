// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/filter.hpp>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/text_pieces.hpp>
#include <tpx/generator/token.hpp>
#include <tpx/generator/token_healing.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx {

/// A filter for a healed prompt: the next tokens begin with the prompt's last bytes, and what goes
/// beyond those is what `F` allows. A token that does both gives `F` its bytes beyond as the fewest
/// tokens that spell them, so that what `F` decides by bytes is the same however they are spelled.
///
/// A token that is a beginning of what is left of the prompt may come where others spell the rest
/// and no more, so that healing leads into no dead end. The first masks cost the tokens that may
/// come, each a search by its bytes; when the prompt is healed, a mask is that of `F`.
template <vocabulary V, filter F>
class healed_filter {
 public:
  /// What `pieces` is of must outlive it.
  healed_filter(text_pieces<V> const& pieces, token_healing<V> healing, F beyond)
      : pieces_{&pieces}, healing_{std::move(healing)}, beyond_{std::move(beyond)} {}

  void fill(std::span<std::uint32_t> mask) {
    if (healing_.finished()) { return beyond_.fill(mask); }
    healing_.fill(mask);
    allowed_.resize(mask.size());
    beyond_.fill(allowed_);
    for (std::size_t t = 0; t < pieces_->vocab_size(); ++t) {
      auto const token = static_cast<token_id>(t);
      if (!mask_allows(mask, token)) { continue; }
      bool const may = may_come(token, [&] { return mask_allows(allowed_, spelled_[0]); });
      if (!may) { mask_forbid(mask, token); }
    }
  }

  void accept(token_id token) {
    if (healing_.finished()) {
      beyond_.accept(token);
      ++after_;
      return;
    }
    bool const may = may_come(token, [] { return true; });
    healing_.accept(token);  // throws if it does not go on with the prompt
    if (!may) { healing_.rewind(1); }
    expects(may, "the filter does not allow what a healing token has beyond the prompt");
    spilled_ = accept_spelled();
  }

  void rewind(std::size_t tokens) {
    auto const after = std::min(tokens, after_);
    beyond_.rewind(after);
    after_ -= after;
    if (tokens == after) { return; }
    healing_.rewind(tokens - after);
    beyond_.rewind(std::exchange(spilled_, 0));
  }

  [[nodiscard]] bool finished() const { return healing_.finished() && beyond_.finished(); }

 private:
  /// Whether `token` may come, as far as healing has not decided it; `spelled_` is then what it
  /// gives to `F`. `first()`: whether the first of these may come, perhaps.
  template <class First>
  [[nodiscard]] bool may_come(token_id token, First first) {
    auto const piece = pieces_->piece(token);
    auto const left = healing_.left();
    spelled_.clear();
    if (piece.size() < left.size()) {
      bool const whole = pieces_->spell(left.substr(piece.size()), spelled_);
      spelled_.clear();
      return whole;
    }
    if (!pieces_->spell(piece.substr(left.size()), spelled_)) { return false; }
    if (spelled_.empty()) { return true; }
    if (!first()) { return false; }
    auto const taken = accept_spelled();
    beyond_.rewind(taken);
    return taken == spelled_.size();
  }

  /// Returns how many of them `F` took.
  std::size_t accept_spelled() {
    std::size_t taken = 0;
    try {
      for (; taken < spelled_.size(); ++taken) { beyond_.accept(spelled_[taken]); }
    } catch (error const&) {}  // it allows no more of them
    return taken;
  }

  text_pieces<V> const* pieces_;
  token_healing<V> healing_;
  F beyond_;
  std::vector<std::uint32_t> allowed_;  // by `F`, at its beginning
  std::vector<token_id> spelled_;
  std::size_t spilled_ = 0;  // tokens that `F` got from the one that ended the healing
  std::size_t after_ = 0;    // tokens since
};

}  // namespace tpx
