// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/job.hpp>
#include <tpx/generator/job_channel.hpp>
#include <tpx/generator/scheduler_run.hpp>

#include <cstddef>
#include <memory>
#include <vector>

namespace tpx::detail {

/// One sequence of a job, from its prompt to its end.
template <class Options, class Sampler>
struct job_run : scheduled_run {
  std::shared_ptr<Options const> options;
  std::shared_ptr<job_channel> channel;
  std::size_t sequence = 0;  // of the job's
  std::size_t prompt = 0;    // tokens
  typename Sampler::state sampler = {};
  finish_reason reason = finish_reason::none;
  std::vector<std::unique_ptr<job_run>>
    followers;  // of the same prompt; they start when it is read
  std::size_t preempted = 0;
  std::size_t requeued = 0;

  [[nodiscard]] std::vector<token_id> const& tokens() const { return contexts[0].tokens; }
  [[nodiscard]] std::size_t generated() const { return tokens().size() - prompt; }

  void push(token_id token) {
    for (auto& c : contexts) { c.tokens.push_back(token); }
    --left;
    --room;
  }
};

}  // namespace tpx::detail
