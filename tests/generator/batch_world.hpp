// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "world.hpp"

#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/sampler.hpp>

#include <cmath>
#include <string>

/// Jobs of all kinds, to be run twice with two samplers and compared.
namespace fake {

/// What came of all jobs, and what it took.
struct outcome {
  std::vector<generated> all = {};
  std::size_t steps = 0;
  std::size_t preempted = 0;
  std::size_t requeued = 0;
  std::size_t accepted = 0;
};

/// Runs the jobs, a few of them new every few steps.
template <class Job, class Model, class Sampler, class Drafter>
outcome run(std::vector<Job> const& jobs, Model& model, Sampler& sampler, Drafter& drafter,
            tpx::generator_options const& how) {
  letters const names{model.vocab_size()};
  tpx::generator<Model, Sampler, letters, Drafter> gen{model, sampler, names, drafter, how};
  std::vector<tpx::job> handles;
  std::size_t step = 0;
  do {
    if (step++ % 3 == 0) {  // they come one after the other, so that slots change hands
      for (int n = 0; n < 4 && handles.size() < jobs.size(); ++n) {
        handles.push_back(gen.enqueue(jobs[handles.size()]));
      }
    }
    gen.pages().validate();
  } while (gen.step() || handles.size() < jobs.size());
  outcome found{.steps = model.steps};
  for (auto const& h : handles) {
    for (auto& g : h.wait(no_time)) {
      found.preempted += g.metrics.preemptions;
      found.requeued += g.metrics.requeues;
      found.accepted += g.metrics.accepted_drafts;
      found.all.push_back(std::move(g));
    }
  }
  return found;
}

/// The first sequence that differs; "" if none does. Scores may by `off`, relatively.
inline std::string difference(outcome const& a, outcome const& b, float off = 0) {
  auto const near = [off](float x, float y) {
    return x == y || std::abs(x - y) <= off * (1 + std::abs(x));
  };
  auto const same = [&](auto const& some, auto const& others) {
    return std::equal(some.begin(), some.end(), others.begin(), others.end(),
                      [&](auto const& s, auto const& t) {
                        return s.token == t.token && near(s.logprob, t.logprob);
                      });
  };
  if (a.all.size() != b.all.size()) { return "another number of sequences"; }
  for (std::size_t i = 0; i < a.all.size(); ++i) {
    auto const& x = a.all[i];
    auto const& y = b.all[i];
    auto const what = "sequence " + std::to_string(i) + ": ";
    auto const scores_differ = !std::equal(
      x.scores.begin(), x.scores.end(), y.scores.begin(), y.scores.end(),
      [&](auto const& s, auto const& t) {
        return near(s.logprob, t.logprob) && near(s.raw_logprob, t.raw_logprob) && s.rank == t.rank;
      });
    if (x.error != y.error) { return what + x.error + ", not " + y.error; }
    if (x.reason != y.reason) { return what + "another end"; }
    if (x.tokens != y.tokens) { return what + "other tokens"; }
    if (x.text != y.text) { return what + "another text"; }
    if (scores_differ) { return what + "other scores"; }
    if (!same(x.top, y.top) || !same(x.raw_top, y.raw_top)) {
      return what + "other likeliest tokens";
    }
  }
  return "";
}

/// Everything that a sampler has to do with, in turns.
template <class Chain>
std::vector<tpx::job_options<typename Chain::parameters>> all_kinds(std::size_t n,
                                                                    std::size_t vocab) {
  using namespace tpx::sample;
  std::vector<tpx::job_options<typename Chain::parameters>> jobs(n);
  static constexpr token_bias biases[]{{3, 4}, {7, -1}, {60, 3}};
  auto const set = []<class S, class... Stages>(tpx::sample_parameters<Stages...>& of, S stage) {
    if constexpr ((std::is_same_v<S, Stages> || ...)) { of.set(stage); }
  };
  for (std::size_t i = 0; i < n; ++i) {
    auto& job = jobs[i];
    auto const any = mix(i);
    job.prompt = some_tokens(1 + any % 90, vocab, i % 5);
    job.prompt.push_back(static_cast<token_id>(i % vocab));
    job.max_new_tokens = 1 + static_cast<int>(any / 100 % 50);
    job.seed = i;
    set(job.sampling, Temperature{i % 4 == 0 ? 0.1f : 1.5f});
    if (i % 2 == 0) {
      set(job.sampling, Penalties{.repetition = 1.2f, .presence = 1, .range = 30});
    }
    if (i % 3 == 0) { set(job.sampling, Dry{.multiplier = 0.8f}); }
    if (i % 5 == 0) { set(job.sampling, TopK{7}); }
    if (i % 5 == 3) { set(job.sampling, LogitBias{biases}); }
    if (i % 5 == 4) { set(job.sampling, Xtc{.probability = 0.5f, .threshold = 0.05f}); }
    if (i % 5 == 1) { set(job.sampling, TopP{0.8f}); }
    if (i % 5 == 2) { set(job.sampling, Mirostat2{.tau = 3}); }
    if (i % 4 == 1) { job.banned_strings = {"ab", "c", "bd", "za"}; }
    if (i % 6 == 1) { job.stop_strings = {"xy", "bba"}; }
    if (i % 7 == 1) {
      std::vector<token_id> some;
      for (std::size_t t = i % 3; t < vocab; t += 3) { some.push_back(static_cast<token_id>(t)); }
      job.filter = tpx::allowed_tokens{vocab, some};
    }
    if (i % 7 == 2) {
      job.stop_tokens = {1, 5, 9};
      job.min_new_tokens = std::min(10, job.max_new_tokens);
    }
    if (i % 9 == 0) { job.sequences = 3; }
    if (i % 9 == 4) {
      job.negative_prompt = some_tokens(1 + any % 40, vocab, 900 + i);
      job.guidance = 1.5f;
    }
    job.logprobs = i % 2 == 1;
    job.top_logprobs = static_cast<int>(i % 4);
    job.raw_top_logprobs = static_cast<int>(i % 3);
  }
  return jobs;
}

}  // namespace fake
