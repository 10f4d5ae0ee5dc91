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
  /// What a token changes besides the contexts, and a ban takes back.
  using undo_log =
    transaction<any_filter, text_stream, loop_watch, healing_bytes, State, score_list>;

  std::shared_ptr<Options const> options;
  std::shared_ptr<job_channel> channel;
  std::size_t sequence;  // of the job's
  std::size_t prompt;    // tokens
  undo_log log;
  draft_window window;
  std::vector<std::uint32_t> mask = {};  // what may come next; empty: everything
  job_clock clock = {};
  std::size_t sent = 0;  // new tokens that the user has
  finish_reason reason = finish_reason::none;
  std::vector<std::unique_ptr<job_run>> followers = {};  // sequences that wait for its prompt

  [[nodiscard]] any_filter& filter() { return log.template get<any_filter>(); }
  [[nodiscard]] text_stream& text() { return log.template get<text_stream>(); }
  [[nodiscard]] loop_watch& loops() { return log.template get<loop_watch>(); }
  [[nodiscard]] healing_bytes& healing() { return log.template get<healing_bytes>(); }
  [[nodiscard]] State& state() { return log.template get<State>(); }
  [[nodiscard]] score_list& scores() { return log.template get<score_list>(); }
  [[nodiscard]] std::vector<token_id> const& tokens() const { return contexts[0].tokens; }
  [[nodiscard]] std::size_t generated() const { return tokens().size() - prompt; }

  void push(token_id token) {
    for (auto& c : contexts) { c.tokens.push_back(token); }
    --left;
    --room;
  }

  void pop(std::size_t count) {
    for (auto& c : contexts) { c.tokens.resize(c.tokens.size() - count); }
    left += count;
    room += count;
    log.rewind(count);
  }

  /// Of its draft so many tokens were right.
  void learn(std::size_t right) {
    auto const tokens = drafted();
    window.learn(static_cast<std::uint32_t>(tokens), static_cast<std::uint32_t>(right));
    clock.metrics.accepted_drafts += right;
    clock.metrics.rejected_drafts += tokens - right;
  }

  /// Hands the next `count` tokens and what text is new to the user.
  void send(std::string_view piece, std::size_t count, std::string_view error = {}) {
    if (count == 0 && piece.empty() && reason == finish_reason::none) { return; }
    auto const first = std::exchange(sent, sent + count);
    auto const& [its, top, raw_top] = scores();
    channel->add({.job = channel->id(),
                  .sequence = sequence,
                  .text = piece,
                  .tokens = std::span{tokens()}.subspan(prompt + first, count),
                  .scores = its.of(first, count),
                  .top = top.of(first, count),
                  .raw_top = raw_top.of(first, count),
                  .reason = reason,
                  .error = error,
                  .metrics = clock.metrics});
  }
};

}  // namespace tpx::detail
