// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Models whose state cannot be cut off at a position.
#include "world.hpp"

#include <tpx/generator/ngram_draft.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string>

namespace {

using namespace fake;

constexpr std::size_t vocab = 12;

struct outcome {
  std::string wrong = {};
  std::size_t computed = 0;
  std::size_t loaded = 0;
  std::uint64_t drafts = 0;
};

outcome run(std::vector<options> const& jobs, std::size_t pages,
            tpx::generator_options const& how) {
  fake::recurrent_model<16> model{pages, vocab, how.max_batch};
  letters const names{vocab};
  noisy sampler;
  tpx::ngram_drafter drafter{how.max_batch, {.match = 1}};
  generator<fake::recurrent_model<16>, tpx::ngram_drafter> gen{model, sampler, names, drafter, how};
  std::vector<tpx::job> handles;
  for (auto const& job : jobs) { handles.push_back(gen.enqueue(job)); }
  while (gen.step()) { gen.pages().validate(); }
  outcome found{.computed = model.computed, .loaded = model.loaded};
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    for (auto const& all : handles[i].wait(no_time)) {
      if (all.tokens != expected(jobs[i], vocab, all.sequence)) {
        found.wrong += "job " + std::to_string(i) + ": " + all.error + "\n";
      }
      found.drafts += all.metrics.accepted_drafts + all.metrics.rejected_drafts;
    }
  }
  return found;
}

TEST_CASE("a recurrent model gives the same in a batch, re-queued, and with drafts") {
  auto jobs = some_jobs(24, vocab, 100);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].max_rq_tokens = 3 + static_cast<int>(i);
    jobs[i].max_draft = static_cast<int>(i % 4);
  }
  for (std::size_t bytes : {std::size_t{0}, std::size_t{100}, std::size_t{1} << 16}) {
    auto const found =
      run(jobs, 40,
          {.max_batch = 6, .token_budget = 40, .checkpoints = {{.prompt = 2, .text = 1}, bytes}});
    REQUIRE(found.wrong == "");
    REQUIRE(found.drafts > 0);
  }
}

TEST_CASE("a banned string and a refused draft take cache, hashes and recurrent state back alike") {
  auto jobs = some_jobs(24, vocab, 60);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].banned_strings = {"ab", "cde", "ff", "ea", "kl", "ijg"};
    jobs[i].max_new_tokens = 60;
    jobs[i].max_rq_tokens = 5 + static_cast<int>(i);
    jobs[i].max_draft = static_cast<int>(i % 4);
  }
  letters const names{vocab};
  noisy sampler;
  auto const texts = [](auto const& wanted, auto& model, auto& gen) {
    std::vector<tpx::job> handles;
    for (auto const& job : wanted) { handles.push_back(gen.enqueue(job)); }
    while (gen.step()) { gen.pages().validate(); }
    std::vector<std::vector<token_id>> all;
    for (auto const& h : handles) { all.push_back(h.wait(no_time)[0].tokens); }
    return std::pair{all, model.computed};
  };
  // One cannot go back at all, but reads its pages anew; the other's state is one hash.
  hash_model<16> plain{200, vocab};
  generator<hash_model<16>> simple{plain, sampler, names};
  auto undrafted = jobs;
  for (auto& job : undrafted) { job.max_draft = 0; }
  auto const [expected_texts, least] = texts(undrafted, plain, simple);
  tpx::generator_options const how{.max_batch = 6, .checkpoints = {{.prompt = 2, .text = 1}, 4096}};
  fake::recurrent_model<16> model{40, vocab, how.max_batch};
  tpx::ngram_drafter drafter{how.max_batch, {.match = 1}};
  generator<fake::recurrent_model<16>, tpx::ngram_drafter> gen{model, sampler, names, drafter, how};
  auto const [got, computed] = texts(jobs, model, gen);
  REQUIRE(got == expected_texts);
  REQUIRE(computed > least);  // bans and drafts were taken back
}

TEST_CASE("a recurrent model resumes behind the longest start whose state is kept") {
  std::vector<options> jobs;
  for (std::size_t i = 0; i < 10; ++i) {
    jobs.push_back({.prompt = some_tokens(320, vocab, 5), .max_new_tokens = 5});
    jobs.back().prompt.push_back(static_cast<token_id>(i));
  }
  tpx::generator_options how{.max_batch = 1, .checkpoints = {{.prompt = 4, .text = 1}, 1 << 16}};
  auto const found = run(jobs, 60, how);
  REQUIRE(found.wrong == "");
  REQUIRE(found.computed == 321 + 9 * 1 + 10 * 4);  // 320 tokens are 20 pages: the last is kept
  how.checkpoints.bytes = 0;
  auto const without = run(jobs, 60, how);
  REQUIRE(without.wrong == "");
  REQUIRE(without.computed == 10 * (321 + 4));
}

}  // namespace
