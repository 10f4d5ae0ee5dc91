// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/generator_run.hpp>
#include <tpx/generator/job.hpp>
#include <tpx/generator/job_channel.hpp>
#include <tpx/generator/matcher.hpp>
#include <tpx/generator/text_stream.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tpx::detail {

template <class Options>
[[nodiscard]] std::shared_ptr<text_rules const> rules_of(Options const& job,
                                                         std::span<text_pattern const> patterns) {
  std::size_t last = 0;  // scope
  for (auto const& p : patterns) { last = std::max<std::size_t>(last, p.enters); }
  for (auto const& t : job.scope_tokens) { last = std::max<std::size_t>(last, t.scope); }
  return std::make_shared<text_rules const>(text_rules{.patterns = matcher{patterns, last + 1},
                                                       .stop_tokens = job.stop_tokens,
                                                       .scope_tokens = job.scope_tokens});
}

/// Reserved for a whole run, so that its steps allocate nothing.
[[nodiscard]] inline context context_of(std::vector<token_id> const& prompt, std::size_t more) {
  context c;
  c.tokens.reserve(prompt.size() + more);
  c.tokens = prompt;
  return c;
}

[[nodiscard]] inline loop_watch loops_of(std::optional<loop_options> how, int max_new_tokens) {
  if (!how) { return {}; }
  how->max_rewind = std::max(how->max_rewind, static_cast<std::size_t>(max_new_tokens));
  return {loop_detector{*how}};
}

template <class Options>
[[nodiscard]] output_room room_for(Options const& job) {
  auto const count = [](int n) { return static_cast<std::size_t>(n); };
  return {.sequences = count(job.sequences),
          .tokens = count(job.max_new_tokens),
          .scores = job.logprobs ? 1u : 0u,
          .tops = count(job.top_logprobs),
          .raw_tops = count(job.raw_top_logprobs)};
}

/// The first of a job's sequences; the others follow it. `healing`: bytes at the end of the prompt
/// that have been taken off.
template <class Run, class Options>
[[nodiscard]] std::unique_ptr<Run> make_run(Options wanted, std::size_t healing,
                                            std::shared_ptr<job_channel> channel) {
  auto const patterns = patterns_of(wanted);
  auto const rules = rules_of(wanted, patterns);
  bool const bans = std::any_of(patterns.begin(), patterns.end(),
                                [](auto const& p) { return p.action == text_action::Ban; });
  any_filter filter = std::move(wanted.filter);
  auto const job = std::make_shared<Options const>(std::move(wanted));
  auto const room = room_for(*job);
  auto const count = [](int n) { return static_cast<std::size_t>(n); };
  auto const make = [&](int sequence, any_filter its) {
    auto const left = room.tokens;
    auto run = std::make_unique<Run>(
      Run{{.place = {.priority = job->priority},
           .left = left,
           .most_room = count(job->max_rq_tokens),
           .salt = job->salt},
          job,
          channel,
          count(sequence),
          job->prompt.size(),
          std::move(its),
          text_stream{rules},
          loops_of(job->stop_on_loop, job->max_new_tokens),
          healing_bytes{healing},
          {},
          score_list{{room.scores, left}, {room.tops, left}, {room.raw_tops, left}},
          typename Run::undo_log{bans ? left : 0},
          draft_window{static_cast<std::uint32_t>(job->max_draft)}});
    for (auto const* prompt : {&job->prompt, &job->negative_prompt}) {
      if (prompt->empty()) { continue; }
      run->contexts.push_back(context_of(*prompt, left + count(job->max_draft)));
    }
    run->clock.metrics.prompt_tokens = run->prompt;
    return run;
  };
  std::vector<std::unique_ptr<Run>> followers;
  for (int s = 1; s < job->sequences; ++s) { followers.push_back(make(s, filter)); }
  auto first = make(0, std::move(filter));
  first->followers = std::move(followers);
  return first;
}

}  // namespace tpx::detail
