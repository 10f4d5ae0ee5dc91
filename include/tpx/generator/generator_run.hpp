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

/// How likely tokens were, as far as the job wants to know.
struct score_list {
  bool wanted = false;
  std::size_t tops = 0;
  std::vector<token_score> scores = {};
  std::vector<token_logprob> top = {};

  score_list() = default;
  score_list(bool scored, std::size_t likeliest, std::size_t tokens)
      : wanted{scored}, tops{likeliest} {
    if (wanted) { scores.reserve(tokens); }
    top.reserve(tops * tokens);
  }
  /// Room for the likeliest tokens at the position after the first `tokens`.
  [[nodiscard]] std::span<token_logprob> next(std::size_t tokens) {
    top.resize((tokens + 1) * tops, {-1, 0});  // what stays so was not possible
    return std::span{top}.last(tops);
  }
  void push(token_score score) {
    if (wanted) { scores.push_back(score); }
  }
  void rewind(std::size_t tokens) {
    if (wanted) { scores.resize(scores.size() - tokens); }
    top.resize(top.size() - tokens * tops);
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

  void push(token_id token, token_score score) {
    for (auto& c : contexts) { c.tokens.push_back(token); }
    --left;
    --room;
    scores().push(score);
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
    auto const& [wanted, tops, its, top] = scores();
    channel->add({.job = channel->id(),
                  .sequence = sequence,
                  .text = piece,
                  .tokens = std::span{tokens()}.subspan(prompt + first, count),
                  .scores = std::span{its}.subspan(wanted ? first : 0, wanted ? count : 0),
                  .top = std::span{top}.subspan(first * tops, count * tops),
                  .reason = reason,
                  .error = error,
                  .metrics = clock.metrics});
  }
};

}  // namespace tpx::detail
