// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/token_grammar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tpx {

/// What regex_filter and json_schema_filter may be told.
struct grammar_options {
  std::vector<token_id> end_tokens = {};          // allowed where the text is whole
  std::size_t max_states = std::size_t{1} << 18;  // of the automaton that the grammar becomes
  std::size_t max_bytes = std::size_t{64} << 20;  // of states and masks that are kept for speed
  std::size_t max_space = ~std::size_t{0};        // JSON: whitespace characters in one place
  std::size_t expected_tokens = 4096;  // room for so many before memory is asked for again
};

/// A filter that lets pass what a grammar describes.
///
/// A copy stands where the original stands and shares its masks: make one filter for a grammar and
/// copy it for each job. Copies of one are used by one thread at a time.
class grammar_filter {
 public:
  grammar_filter(std::shared_ptr<token_grammar> grammar, grammar_options const& options)
      : grammar_{std::move(grammar)},
        end_tokens_{options.end_tokens},
        position_{grammar_->start()},
        generation_{grammar_->generation()} {
    for (auto const end : end_tokens_) { detail::expect_token(end, grammar_->tokens().size()); }
    accepted_.reserve(options.expected_tokens);
    finished_ = grammar_->accepts(position_);
  }

  /// A few microseconds where the grammar's state has been met before; else a walk of the
  /// vocabulary's tree.
  void fill(std::span<std::uint32_t> mask) {
    detail::expect_mask(mask, grammar_->tokens().size());
    if (ended_) {
      std::ranges::fill(mask, 0u);
      return;
    }
    catch_up();
    grammar_->fill(position_, mask);
    note_generation();
    for (auto const end : end_tokens_) {
      finished_ ? mask_allow(mask, end) : mask_forbid(mask, end);
    }
  }

  void accept(token_id token) {
    detail::expect_token(token, grammar_->tokens().size());
    catch_up();
    auto const before = position_;
    auto const generation = generation_;
    bool const ends = is_end(token);
    bool const fits = !ended_ && (ends ? finished_ : advance(token));
    expects(fits, [&] {
      return "token " + std::to_string(token) + " (\"" +
             std::string{grammar_->tokens().piece(token)} + "\") may not come after " +
             std::to_string(accepted_.size()) + " accepted tokens";
    });
    accepted_.push_back({token, before});
    if (generation != generation_) { valid_from_ = accepted_.size(); }
    ended_ = ends;
    finished_ = ended_ || grammar_->accepts(position_);
  }

  void rewind(std::size_t tokens) {
    expects(tokens <= accepted_.size(), [&] {
      return std::to_string(tokens) + " tokens to take back of " +
             std::to_string(accepted_.size()) + " accepted";
    });
    if (tokens == 0) { return; }
    auto const left = accepted_.size() - tokens;
    bool const known = generation_ == grammar_->generation() && left >= valid_from_;
    position_ = accepted_[left].before;
    accepted_.resize(left);
    ended_ = false;
    if (!known) { replay(); }
    finished_ = grammar_->accepts(position_);
  }

  [[nodiscard]] bool finished() const { return finished_; }

  [[nodiscard]] token_grammar const& grammar() const { return *grammar_; }

 private:
  struct step {
    token_id token;
    token_grammar::position before;
  };

  [[nodiscard]] bool is_end(token_id token) const {
    return std::ranges::find(end_tokens_, token) != end_tokens_.end();
  }

  bool advance(token_id token) {
    auto const piece = grammar_->tokens().piece(token);
    bool const fits = !piece.empty() && grammar_->advance(position_, piece);
    note_generation();
    return fits;
  }

  // Positions from before the grammar forgot mean nothing; position_ was kept.
  void note_generation() {
    if (generation_ == grammar_->generation()) { return; }
    generation_ = grammar_->generation();
    valid_from_ = accepted_.size();
  }

  // Another filter of the same grammar may have made it forget.
  void catch_up() {
    if (generation_ != grammar_->generation()) { replay(); }
  }

  void replay() {
    position_ = grammar_->start();
    generation_ = grammar_->generation();
    valid_from_ = 0;
    for (std::size_t i = 0; i < accepted_.size(); ++i) {
      accepted_[i].before = position_;
      if (is_end(accepted_[i].token)) { continue; }
      (void)grammar_->advance(position_, grammar_->tokens().piece(accepted_[i].token));
      if (generation_ == grammar_->generation()) { continue; }
      generation_ = grammar_->generation();
      valid_from_ = i + 1;
    }
  }

  std::shared_ptr<token_grammar> grammar_;
  std::vector<token_id> end_tokens_;
  token_grammar::position position_;
  std::uint64_t generation_;
  std::vector<step> accepted_;
  std::size_t valid_from_ = 0;  // positions before this token are of an older generation
  bool ended_ = false;
  bool finished_;
};

}  // namespace tpx
