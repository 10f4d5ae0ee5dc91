// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/drafter.hpp>
#include <tpx/generator/model.hpp>
#include <tpx/generator/suffix_automaton.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx {

struct ngram_options {
  std::size_t match = 3;   // tokens at the end that must occur earlier for anything to be proposed
  std::size_t tokens = 0;  // of a sequence, for which memory is reserved (~170 bytes each)
  std::size_t most = 16;   // tokens of a draft, likewise
};

/// Drafts of one sequence without a model: what followed the longest earlier occurrence of its end.
class ngram_draft {
 public:
  explicit ngram_draft(ngram_options const& options = {})
      : match_{std::max<std::size_t>(options.match, 1)}, text_{options.tokens} {
    proposed_.reserve(options.most);
  }

  /// Tokens that the sequence has for good; amortised O(1) each.
  void append(std::span<token_id const> tokens) {
    for (auto const token : tokens) { text_.append(token); }
  }

  /// At most `most` tokens; none without a match. Where what followed reaches the end, it goes on
  /// with itself, so that a period is drafted over and over. Valid until the next call. O(most).
  [[nodiscard]] std::span<token_id const> propose(std::size_t most) {
    proposed_.clear();
    if (auto const found = text_.longest(); found.length >= match_) {
      auto const after = text_.tokens().subspan(found.end);
      for (std::size_t i = 0; i < most; ++i) {
        proposed_.push_back(i < after.size() ? after[i] : proposed_[i - after.size()]);
      }
    }
    return proposed_;
  }

  /// Takes back the last `tokens` appended tokens.
  void rewind(std::size_t tokens) { text_.rewind(tokens); }
  /// For another sequence; the memory is kept.
  void clear() { text_.clear(); }
  [[nodiscard]] std::span<token_id const> tokens() const noexcept { return text_.tokens(); }

 private:
  std::size_t match_;
  suffix_automaton text_;
  std::vector<token_id> proposed_;
};

/// N-gram drafts of many sequences, by slot: a drafter.
class ngram_drafter {
 public:
  explicit ngram_drafter(std::size_t slots, ngram_options const& each = {}) {
    sequences_.reserve(slots);
    for (std::size_t i = 0; i < slots; ++i) { sequences_.push_back({ngram_draft{each}, {}}); }
  }

  /// Throws invalid_argument for a slot of no sequence.
  void open(std::uint32_t slot, std::size_t) {
    detail::expect_slot(slot, sequences_.size());
    sequences_[slot].text.clear();
  }
  void propose(std::span<draft_request const> requests) {
    for (auto const& r : requests) {
      auto& [text, draft] = sequences_[r.slot];
      text.append(r.tokens.subspan(text.tokens().size()));
      draft = text.propose(r.most);
    }
  }
  [[nodiscard]] std::span<token_id const> tokens(std::uint32_t slot) const {
    return sequences_[slot].draft;
  }
  [[nodiscard]] token_distribution drawn_from(std::uint32_t, std::size_t) const { return {}; }
  void rewind(std::uint32_t slot, std::size_t length) {
    auto& text = sequences_[slot].text;
    text.rewind(text.tokens().size() - std::min(length, text.tokens().size()));
  }
  void copy(std::span<page_copy const>) {}

 private:
  struct sequence {
    ngram_draft text;
    std::span<token_id const> draft;
  };
  std::vector<sequence> sequences_;
};

}  // namespace tpx
