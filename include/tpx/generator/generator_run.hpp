// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/draft_window.hpp>
#include <tpx/generator/job.hpp>
#include <tpx/generator/job_channel.hpp>
#include <tpx/generator/job_clock.hpp>
#include <tpx/generator/loop_detector.hpp>
#include <tpx/generator/scheduler_run.hpp>
#include <tpx/generator/text_stream.hpp>
#include <tpx/generator/transaction.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

/// A loop detector, for a job that wants one.
struct loop_watch {
  std::optional<loop_detector> detector = {};

  [[nodiscard]] bool push(token_id token) { return detector && detector->push(token) > 0; }
  void rewind(std::size_t count) {
    if (detector) { detector->rewind(count); }
  }
};

/// Bytes of the prompt that the next tokens repeat, where it is healed.
struct healing_bytes {
  std::size_t left = 0;

  [[nodiscard]] std::string_view cut(std::string_view piece) {
    auto const n = std::min(left, piece.size());
    left -= n;
    return piece.substr(n);
  }
};

/// A row of `width` values for each new token; nothing where that is 0.
template <class T>
struct token_rows {
  std::size_t width = 0;
  std::vector<T> all = {};

  token_rows(std::size_t columns, std::size_t tokens) : width{columns} {
    all.reserve(width * tokens);
  }
  /// The row of the next token, with `value` in it, to be written.
  [[nodiscard]] std::span<T> next(T const& value) {
    all.resize(all.size() + width, value);
    return std::span{all}.last(width);
  }
  void rewind(std::size_t tokens) { all.resize(all.size() - tokens * width); }
  [[nodiscard]] std::span<T const> of(std::size_t first, std::size_t tokens) const {
    return std::span{all}.subspan(first * width, tokens * width);
  }
};

/// How likely tokens were, as far as the job wants to know.
struct score_list {
  token_rows<token_score> scores;
  token_rows<token_logprob> top;
  token_rows<token_logprob> raw_top;

  void rewind(std::size_t tokens) {
    scores.rewind(tokens);
    top.rewind(tokens);
    raw_top.rewind(tokens);
  }
};

/// One sequence of a job, from its prompt to its end.
template <class Options, class State>
struct job_run : scheduled_run {
  using undo_log = transaction<scheduled_run, any_filter, text_stream, loop_watch, healing_bytes,
                               State, score_list>;

  std::shared_ptr<Options const> options;
  std::shared_ptr<job_channel> channel;
  std::size_t sequence;  // of the job's
  std::size_t prompt;    // tokens
  any_filter filter;
  text_stream text;
  loop_watch loops;
  healing_bytes healing;
  State state;
  score_list scores;
  undo_log log;  // over all from `filter` on and the scheduled run
  draft_window window;
  std::vector<std::uint32_t> mask = {};  // what may come next; empty: everything
  job_clock clock = {};
  std::size_t right = 0;  // of this step's draft, so far
  std::size_t sent = 0;   // new tokens that the user has
  finish_reason reason = finish_reason::none;
  std::vector<std::unique_ptr<job_run>> followers = {};  // sequences that wait for its prompt

  [[nodiscard]] std::vector<token_id> const& tokens() const { return contexts[0].tokens; }
  [[nodiscard]] std::size_t generated() const { return tokens().size() - prompt; }

  /// Before a token changes anything.
  void begin_token() { log.begin_token(*this, filter, text, loops, healing, state, scores); }
  /// All is as it was before the last `count` tokens.
  void pop(std::size_t count) {
    log.rewind(count, *this, filter, text, loops, healing, state, scores);
  }

  /// Of its draft `right` tokens were so.
  void learn() {
    auto const tokens = drafted();
    window.learn(static_cast<std::uint32_t>(tokens), static_cast<std::uint32_t>(right));
    clock.metrics.accepted_drafts += right;
    clock.metrics.rejected_drafts += tokens - right;
  }

  /// Hands the next `count` tokens and what text is new to the user.
  void send(std::string_view piece, std::size_t count, std::string_view error = {}) {
    if (count == 0 && piece.empty() && reason == finish_reason::none) { return; }
    auto const first = std::exchange(sent, sent + count);
    clock.metrics.preemptions = preemptions;
    clock.metrics.requeues = requeues;
    channel->add({.job = channel->id(),
                  .sequence = sequence,
                  .text = piece,
                  .tokens = std::span{tokens()}.subspan(prompt + first, count),
                  .scores = scores.scores.of(first, count),
                  .top = scores.top.of(first, count),
                  .raw_top = scores.raw_top.of(first, count),
                  .reason = reason,
                  .error = error,
                  .metrics = clock.metrics});
  }
};

}  // namespace tpx::detail
