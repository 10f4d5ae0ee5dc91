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
using leader_t = llama::leader<served_t>;
using greedy_t = sampler<sample::Argmax>;
using generator_t = generator<leader_t, greedy_t, llama::vocabulary, ngram_drafter>;

/// Circumstances that must not show.
struct circumstances {
  std::size_t pages = 400;  // of 16 tokens; the longest prompt takes 13
  std::size_t host_pages = 0;
  std::size_t defragment = 0;
  std::size_t max_batch = 32;
  std::size_t token_budget = 2048;
  int max_rq_tokens = 512;
  int max_draft = 0;
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
  on_leader<served_t>(
    model.files, n, {.pages = c.pages, .host_pages = c.host_pages}, [&](leader_t& leader) {
      greedy_t sampler{{.columns = leader.vocab_size()}};
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
                           .max_draft = c.max_draft,
                           .max_rq_tokens = c.max_rq_tokens}));
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
  CHECK((sanitized || found.metrics.preemptions > 0));
  CHECK((sanitized || found.metrics.evicted_pages > 0));
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
               .max_draft = 3})
            .wrong == "");
  }
}
