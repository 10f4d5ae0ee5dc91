// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/queue.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx::detail {

/// Tokens and how far they are in the cache. A run has one context, or two where it is guided.
struct context {
  std::vector<token_id> tokens;
  std::size_t cached = 0;      // tokens whose keys and values are in the cache
  std::uint32_t sequence = 0;  // the page table's, and the model's slot; while the run is running
  std::size_t stop = never;    // a forward must end at this position: a state is kept there
  std::size_t planned = 0;     // tokens that this step computes
  std::size_t row = 0;         // of the step's logits, the first that is this context's

  static constexpr std::size_t never = static_cast<std::size_t>(-1);

  [[nodiscard]] std::size_t pending() const { return tokens.size() - cached; }
};

/// What scheduling knows of one sequence of a job: a part of its transaction, for it holds how far
/// its tokens go and, with them, how far the cache counts.
struct scheduled_run {
  rank_in_queue place = {};
  std::vector<context> contexts = {};
  std::size_t ahead = 0;      // of them, whose host pages were asked for since it waits
  std::size_t left = 0;       // new tokens until max_new_tokens
  std::size_t room = 0;       // new tokens that pages are claimed for yet
  std::size_t most_room = 0;  // that are claimed at a time
  std::uint64_t salt = 0;
  std::size_t rows = 0;           // logits wanted in this step
  std::uint64_t preemptions = 0;  // times that it made way for a higher priority
  std::uint64_t requeues = 0;     // and that it went back for more room

  /// One token lacks: this step can choose the next.
  [[nodiscard]] bool decoding() const {
    return std::all_of(contexts.begin(), contexts.end(),
                       [](auto const& c) { return c.pending() == 1; });
  }
  [[nodiscard]] std::size_t drafted() const { return rows == 0 ? 0 : rows - 1; }
  [[nodiscard]] std::size_t planned() const {
    std::size_t sum = 0;
    for (auto const& c : contexts) { sum += c.planned; }
    return sum;
  }
  void push(token_id token) {
    for (auto& c : contexts) { c.tokens.push_back(token); }
    --left;
    --room;
  }
  /// The last tokens are gone. What a forward has made of them counts no more: the cache, its
  /// hashes and a recurrent state go back at the end of the step.
  void rewind(std::size_t tokens) {
    for (auto& c : contexts) { c.tokens.resize(c.tokens.size() - tokens); }
    left += tokens;
    room += tokens;
  }
  /// Puts a draft behind the tokens for one step, at whose end undraft() takes it back.
  void draft(std::span<token_id const> guess) {
    rows += guess.size();
    for (auto const token : guess) { push(token); }
    for (auto& c : contexts) { c.planned += guess.size(); }
  }
  void undraft() { rewind(drafted()); }
  void clear_plan() {
    rows = 0;
    for (auto& c : contexts) { c.planned = 0; }
  }
};

}  // namespace tpx::detail
