// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The generator on a model that is split over ranks: PyTorch's texts, whatever happens around them.
#include "llama/opened.hpp"
#include "llama_world.hpp"

#include <tpx/generator/generator.hpp>
#include <tpx/generator/ngram_draft.hpp>
#include <tpx/generator/sampler.hpp>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace world;
using served_t = llama::model<comm_t, 16>;
using leader_t = llama::part_leader<served_t>;
using greedy_t = sampler<sample::Argmax>;
using sampler_t = llama::leading_sampler<served_t, greedy_t>;
using generator_t = generator<leader_t, sampler_t, llama::vocabulary, ngram_drafter>;

/// Circumstances that must not show.
struct circumstances {
  std::size_t pages = 400;  // of 16 tokens; the longest prompt takes 13
  std::size_t host_pages = 0;
  std::size_t defragment = 0;
  std::size_t max_batch = 32;
  std::size_t token_budget = 2048;
  int max_rq_tokens = 512;
  int max_draft = 0;
  std::size_t priorities = 1;  // of the jobs, which then come one after the other
};

struct outcome {
  std::string wrong;
  generator_metrics metrics;
};

/// `count` jobs on n ranks, of the golden prompts over and over, at once.
outcome run(int n, std::size_t count, circumstances const& c) {
  static auto const model = llama::opened::open(bible);
  static auto const expected = golden(bible).at("greedy");
  std::size_t const tokens = sanitized ? 5 : 24;
  outcome found;
  on_part_leader<served_t, greedy_t>(
    model.files, n, {.pages = c.pages, .host_pages = c.host_pages},
    [&](leader_t& leader, sampler_t& sampler) {
      ngram_drafter drafter{c.max_batch};
      generator_t serving{
        leader,
        sampler,
        model.words,
        drafter,
        {.max_batch = c.max_batch, .token_budget = c.token_budget, .defragment = c.defragment}};
      std::vector<job> jobs;
      for (std::size_t i = 0; i < count; ++i) {
        jobs.push_back(
          serving.enqueue({.prompt = expected[i % expected.size()].at("prompt_ids").get<ids>(),
                           .max_new_tokens = static_cast<int>(tokens),
                           .priority = static_cast<int>(i % c.priorities),
                           .max_draft = c.max_draft,
                           .max_rq_tokens = c.max_rq_tokens}));
        if (c.priorities > 1) { serving.step(); }  // or the first come would be the last
      }
      while (serving.step()) { serving.pages().validate(); }
      for (std::size_t i = 0; i < count; ++i) {
        auto const got = jobs[i].wait(std::chrono::milliseconds{0}).at(0);
        auto wanted = expected[i % expected.size()].at("ids").get<ids>();
        wanted.resize(tokens);
        if (got.tokens != wanted) {
          found.wrong += "job " + std::to_string(i) + ": other tokens " + got.error + '\n';
        }
      }
      found.metrics = serving.metrics();
    });
  return found;
}

}  // namespace

TEST_CASE("a job gives PyTorch's text alone and in a batch of 32") {
  CHECK(run(2, 1, {}).wrong == "");
  auto const together = run(2, sanitized ? 8 : 40, {});
  CHECK(together.wrong == "");
  CHECK(
    (sanitized || together.metrics.cached_tokens > 0));  // the last 8 find the first ones' pages
}

TEST_CASE("a job gives PyTorch's text when it waits, gives way and comes back") {
  auto const found = run(2, 16, {.pages = 24, .host_pages = 8, .max_rq_tokens = 3});
  CHECK(found.wrong == "");
  CHECK((sanitized || found.metrics.requeues > 0));
  CHECK((sanitized || found.metrics.evicted_pages > 0));
}

TEST_CASE("a job gives PyTorch's text when others take its pages, and it comes back") {
  auto const found = run(2, 24, {.pages = 40, .host_pages = 8, .max_draft = 2, .priorities = 4});
  CHECK(found.wrong == "");
  CHECK((sanitized || found.metrics.preemptions > 3));
  CHECK((sanitized || found.metrics.requeues == 0));
}

TEST_CASE("a job gives PyTorch's text when prompts are cut small and pages are moved") {
  auto const found =
    run(2, 16, {.pages = 100, .defragment = 4, .max_batch = 8, .token_budget = 20});
  CHECK(found.wrong == "");
  CHECK((sanitized || found.metrics.moved_pages > 0));
}

TEST_CASE("a job gives PyTorch's text with drafts") {
  auto const found = run(2, 8, {.max_draft = 4});
  CHECK(found.wrong == "");
  CHECK((sanitized || found.metrics.accepted_drafts > 0));
}

TEST_CASE("a job gives PyTorch's text on 1, 2, 4 and 8 ranks with all of this at once") {
  for (int n : {1, 2, 4, 8}) {
    if (sanitized && n > 2) { continue; }
    INFO(n << " ranks");
    CHECK(run(n, 16,
              {.pages = 30,
               .host_pages = 8,
               .defragment = 2,
               .max_batch = 12,
               .token_budget = 40,
               .max_rq_tokens = 5,
               .max_draft = 3,
               .priorities = 3})
            .wrong == "");
  }
}

namespace {

using stages_t = sampler<sample::LogitBias, sample::Penalties, sample::TopK, sample::TopP,
                         sample::Temperature, sample::Mirostat2, sample::Gumbel>;
using options_t = job_options<stages_t::parameters>;

/// Jobs that use all that a sampler can be asked.
std::vector<options_t> varied_jobs(std::vector<sample::token_bias> const& biases) {
  static auto const prompts = golden(bible).at("greedy");
  std::vector<options_t> jobs;
  for (std::size_t i = 0; i < 12; i += sanitized ? 3 : 1) {
    options_t job{.prompt = prompts[i % prompts.size()].at("prompt_ids").get<ids>(),
                  .max_new_tokens = sanitized ? 4 : 10,
                  .seed = i};
    job.sampling = {sample::Temperature{0.8f}};
    if (i % 2 == 0) { job.sampling.set(sample::TopK{30}); }
    if (i % 3 == 0) { job.sampling.set(sample::TopP{0.9f}); }
    if (i % 4 == 1) { job.sampling.set(sample::Penalties{.repetition = 1.3f, .presence = 0.2f}); }
    if (i % 5 == 1) { job.sampling.set(sample::LogitBias{biases}); }
    if (i % 6 == 2) { job.sampling.set(sample::Mirostat2{.tau = 4}); }
    if (i % 4 == 3) {
      job.negative_prompt = prompts[(i + 1) % prompts.size()].at("prompt_ids").get<ids>();
    }
    if (i % 3 == 1) { job.banned_strings = {" the", "and"}; }
    if (i == 5) { job.sequences = 3; }
    job.logprobs = i % 2 == 0;
    job.top_logprobs = static_cast<int>(i % 4);
    job.raw_top_logprobs = static_cast<int>(i % 3);
    jobs.push_back(std::move(job));
  }
  return jobs;
}

template <class Leader, class Sampler>
std::vector<generated> outputs(Leader& leader, Sampler& chain, llama::vocabulary const& words) {
  std::vector<sample::token_bias> const biases{{20, 3.0f}, {300, -2.0f}};
  generator<Leader, Sampler, llama::vocabulary> serving{leader, chain, words};
  std::vector<job> handles;
  for (auto& options : varied_jobs(biases)) { handles.push_back(serving.enqueue(options)); }
  serving.drain();
  std::vector<generated> all;
  for (auto const& h : handles) {
    for (auto& g : h.wait(std::chrono::milliseconds{0})) { all.push_back(std::move(g)); }
  }
  return all;
}

bool same_scores(generated const& a, generated const& b) {
  return a.top == b.top && a.raw_top == b.raw_top &&
         std::ranges::equal(a.scores, b.scores, [](auto const& x, auto const& y) {
           return x.logprob == y.logprob && x.raw_logprob == y.raw_logprob && x.rank == y.rank;
         });
}

}  // namespace

TEST_CASE("each rank samples from its part of the vocabulary, as one would from all of it") {
  auto const model = llama::opened::open(bible);
  std::vector<generated> first;  // of one rank
  for (int n : {1, 2, 4, 8}) {
    if (sanitized && n != 2) { continue; }
    INFO(n << " ranks");
    std::vector<generated> whole;
    on_leader<served_t>(model.files, n, {.pages = 400}, [&](auto& leader) {
      stages_t chain{{.columns = leader.vocab_size()}};
      whole = outputs(leader, chain, model.words);
    });
    std::vector<generated> parts;
    on_part_leader<served_t, stages_t>(
      model.files, n, {.pages = 400},
      [&](auto& leader, auto& chain) { parts = outputs(leader, chain, model.words); });
    if (first.empty()) { first = whole; }
    REQUIRE(parts.size() == (sanitized ? 4 : 14));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      INFO("sequence " << i << parts[i].error);
      CHECK(parts[i].reason == finish_reason::max_new_tokens);
      CHECK(parts[i].tokens == whole[i].tokens);
      CHECK(parts[i].text == whole[i].text);
      CHECK(same_scores(parts[i], whole[i]));
      CHECK(parts[i].tokens == first[i].tokens);
    }
  }
}
