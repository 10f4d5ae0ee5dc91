// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/draft_window.hpp>
#include <tpx/generator/job.hpp>
#include <tpx/generator/job_channel.hpp>
#include <tpx/generator/job_clock.hpp>
#include <tpx/generator/scheduler_run.hpp>
#include <tpx/generator/text_stream.hpp>
#include <tpx/generator/transaction.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

/// One sequence of a job, from its prompt to its end.
template <class Options, class State>
struct job_run : scheduled_run {
  /// What a token changes besides the contexts, and a ban takes back.
  using undo_log = transaction<any_filter, text_stream, State, std::vector<token_score>>;

  std::shared_ptr<Options const> options;
  std::shared_ptr<job_channel> channel;
  std::size_t sequence;  // of the job's
  std::size_t prompt;    // tokens
  undo_log log;
  draft_window window;
  std::vector<token_logprob> top = {};
  std::vector<std::uint32_t> mask = {};  // what may come next; empty: everything
  job_clock clock = {};
  std::size_t sent = 0;  // new tokens that the user has
  finish_reason reason = finish_reason::none;
  std::vector<std::unique_ptr<job_run>> followers = {};  // sequences that wait for its prompt

  [[nodiscard]] any_filter& filter() { return log.template get<any_filter>(); }
  [[nodiscard]] text_stream& text() { return log.template get<text_stream>(); }
  [[nodiscard]] State& state() { return log.template get<State>(); }
  [[nodiscard]] auto& scores() { return log.template get<std::vector<token_score>>(); }
  [[nodiscard]] std::vector<token_id> const& tokens() const { return contexts[0].tokens; }
  [[nodiscard]] std::size_t generated() const { return tokens().size() - prompt; }
  [[nodiscard]] std::size_t tops() const { return static_cast<std::size_t>(options->top_logprobs); }

  void push(token_id token, token_score score, std::span<token_logprob const> likeliest) {
    for (auto& c : contexts) { c.tokens.push_back(token); }
    --left;
    --room;
    scores().push_back(score);
    top.insert(top.end(), likeliest.begin(), likeliest.end());
    top.resize(generated() * tops(), {-1, 0});  // where fewer tokens were possible
  }

  void pop(std::size_t count) {
    for (auto& c : contexts) { c.tokens.resize(c.tokens.size() - count); }
    left += count;
    room += count;
    top.resize(generated() * tops());
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
    channel->add({.job = channel->id(),
                  .sequence = sequence,
                  .text = piece,
                  .tokens = std::span{tokens()}.subspan(prompt + first, count),
                  .scores = std::span{scores()}.subspan(first, options->logprobs ? count : 0),
                  .top = std::span{top}.subspan(first * tops(), count * tops()),
                  .reason = reason,
                  .error = error,
                  .metrics = clock.metrics});
  }
};

}  // namespace tpx::detail
