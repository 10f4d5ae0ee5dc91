// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A job's tokens are the same whatever happens around it.
#include "world.hpp"

#include <tpx/generator/ngram_draft.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string>

namespace {

using namespace fake;

constexpr std::size_t vocab = 61;

struct outcome {
  std::string wrong = {};  // the first difference
  std::size_t computed = 0;
  std::size_t steps = 0;
};

/// Runs all jobs at once; every one must give what it should.
template <class Drafter>
outcome run(std::vector<options> const& jobs, std::size_t pages, tpx::generator_options const& how,
            Drafter& drafter) {
  hash_model<16> model{pages, vocab};
  letters const names{vocab};
  noisy sampler;
  generator<hash_model<16>, Drafter> gen{model, sampler, names, drafter, how};
  std::vector<tpx::job> handles;
  for (auto const& job : jobs) { handles.push_back(gen.enqueue(job)); }
  while (gen.step()) { gen.pages().validate(); }
  outcome found{.computed = model.computed, .steps = model.steps};
  for (std::size_t i = 0; i < jobs.size() && found.wrong.empty(); ++i) {
    auto const all = handles[i].wait(no_time);
    for (std::size_t s = 0; s < all.size(); ++s) {
      auto const what = "job " + std::to_string(i) + ", sequence " + std::to_string(s) + ": ";
      if (all[s].reason != finish_reason::max_new_tokens) {
        found.wrong += what + std::string{name(all[s].reason)} + " " + all[s].error + "\n";
      } else if (all[s].tokens != expected(jobs[i], vocab, s)) {
        found.wrong += what + "other tokens\n";
      }
    }
  }
  return found;
}

outcome run(std::vector<options> const& jobs, std::size_t pages,
            tpx::generator_options const& how = {}) {
  tpx::no_drafter none;
  return run(jobs, pages, how, none);
}

TEST_CASE("a job alone gives what its model says, token by token") {
  for (auto const& job : some_jobs(20, vocab, 100)) { REQUIRE(run({job}, 20).wrong == ""); }
}

TEST_CASE("a job gives the same in a batch of 32") {
  auto const found = run(some_jobs(32, vocab, 200), 600);
  REQUIRE(found.wrong == "");
  REQUIRE(found.steps <= 43);  // 40 tokens, and the prompts within a few steps
}

TEST_CASE("a job gives the same when its prompt is read in small chunks among decodes") {
  auto const found = run(some_jobs(32, vocab, 200), 600, {.max_batch = 8, .token_budget = 10});
  REQUIRE(found.wrong == "");
}

TEST_CASE("a job gives the same when it is put back into the queue every few tokens") {
  auto jobs = some_jobs(32, vocab, 100);
  for (auto& job : jobs) { job.max_rq_tokens = 3; }
  auto const found = run(jobs, 40);
  REQUIRE(found.wrong == "");
}

TEST_CASE("a job gives the same with pages that others have computed") {
  auto jobs = some_jobs(32, vocab, 100);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto prompt = some_tokens(20 + 3 * i, vocab, 5);  // beginnings of one another
    prompt.push_back(static_cast<token_id>(i));
    jobs[i].prompt = prompt;
  }
  std::size_t tokens = 0;
  for (auto const& job : jobs) {
    tokens += job.prompt.size() + static_cast<std::size_t>(job.max_new_tokens) - 1;
  }
  auto const found = run(jobs, 100, {.max_batch = 4});
  REQUIRE(found.wrong == "");
  REQUIRE(found.computed < tokens / 2);
}

TEST_CASE("a job gives the same while pages are moved") {
  auto jobs = some_jobs(64, vocab, 100);
  for (auto& job : jobs) { job.max_rq_tokens = 7; }
  REQUIRE(run(jobs, 50, {.max_batch = 12, .defragment = 3}).wrong == "");
}

TEST_CASE("a job gives the same with n-gram drafts") {
  auto jobs = some_jobs(32, vocab, 100);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].max_draft = static_cast<int>(i % 6);
    jobs[i].max_rq_tokens = 5 + static_cast<int>(i);
  }
  tpx::ngram_drafter drafter{16, {.match = 1}};
  REQUIRE(run(jobs, 60, {.max_batch = 16}, drafter).wrong == "");
}

TEST_CASE("the sequences of a job have seeds of their own and read their prompt once") {
  options job{.prompt = some_tokens(100, vocab, 1), .max_new_tokens = 10, .seed = 3};
  job.sampling.heat = 4;
  job.sequences = 8;
  REQUIRE(expected(job, vocab, 1) != expected(job, vocab, 2));
  auto const found = run({job}, 20);
  REQUIRE(found.wrong == "");
  REQUIRE(found.computed < 2 * 100 + 8 * 10);
}

TEST_CASE("guidance leaves alone what the negative prompt makes impossible") {
  constexpr float none = -std::numeric_limits<float>::infinity();
  std::vector<float> logits{1, none, none, 2, 5};
  tpx::guide(logits, std::vector<float>{none, none, 3, 2, 4}, 2);
  REQUIRE(logits == std::vector<float>{1, none, none, 2, 6});
}

TEST_CASE("guidance mixes the logits of two prompts") {
  auto jobs = some_jobs(16, vocab, 100);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].negative_prompt = some_tokens(1 + mix(i) % 60, vocab, 900 + i);
    jobs[i].guidance = 1.0f + static_cast<float>(i) / 4;
    jobs[i].max_draft = static_cast<int>(i % 4);
    jobs[i].max_rq_tokens = 4 + static_cast<int>(i);
  }
  tpx::ngram_drafter drafter{8, {.match = 1}};
  REQUIRE(run(jobs, 60, {.max_batch = 8, .token_budget = 30}, drafter).wrong == "");
}

}  // namespace
