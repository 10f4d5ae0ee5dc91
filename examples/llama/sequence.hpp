// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "model.hpp"

#include <numeric>

namespace llama {

/// One sequence that has a model, or the model's part of this rank, to itself. All ranks make the
/// same calls.
template <class Model>
class sequence {
 public:
  /// `model` must outlive it.
  explicit sequence(Model& model) : model_{model}, pages_(model.pages()) {
    std::iota(pages_.begin(), pages_.end(), 0u);
  }

  /// Appends `tokens`, at least one; returns the logits of the token after the last, (vocab), which
  /// are the model's until its next call.
  std::span<float const> forward(std::span<std::int32_t const> tokens) {
    auto const step = part(tokens, 1);
    auto const logits = model_.forward({&step, 1});
    length_ += tokens.size();
    return logits;
  }

  /// The same, but returns the likeliest next token. Errors: bad_file where no logit is a number.
  std::int32_t greedy(std::span<std::int32_t const> tokens) {
    auto const step = part(tokens, 1);
    tpx::scored_token best{};
    model_.greedy({&step, 1}, {&best, 1});
    length_ += tokens.size();
    if (best.token == tpx::scored_token::none) {
      throw tpx::error{
        tpx::errc::bad_file, "no logit is a number", {.remedy = "the weights are damaged"}};
    }
    return best.token;
  }

  /// Appends `tokens` and returns the sum of -log p, in nats, of all of them but the first.
  double score(std::span<std::int32_t const> tokens) {
    // The last one's logits are not wanted, so it is a part of its own.
    std::size_t const n = tokens.size() - (tokens.empty() ? 0 : 1);
    tpx::step_part const parts[]{
      part(tokens.first(n), n),
      {.tokens = tokens.subspan(n), .start = length_ + n, .pages = pages_, .rows = 0, .slot = 0}};
    auto const total = model_.score(std::span{parts}.subspan(n == 0 ? 1 : 0),
                                    tokens.subspan(tokens.empty() ? 0 : 1));
    length_ += tokens.size();
    return total;
  }

  /// Drops all tokens from position `length` on.
  void rewind(std::size_t length = 0) {
    tpx::expects(length <= length_, "rewind: the sequence is not that long");
    length_ = length;
  }

  [[nodiscard]] std::size_t length() const noexcept { return length_; }

 private:
  [[nodiscard]] tpx::step_part part(std::span<std::int32_t const> tokens, std::size_t rows) const {
    return {.tokens = tokens, .start = length_, .pages = pages_, .rows = rows, .slot = 0};
  }

  Model& model_;
  std::vector<tpx::page_id> pages_;
  std::size_t length_ = 0;
};

}  // namespace llama
