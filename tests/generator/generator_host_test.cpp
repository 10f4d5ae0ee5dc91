// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Pages in host memory under a generator.
#include "tiered_models.hpp"
#include "world.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <optional>

namespace {

using namespace fake;

constexpr std::size_t vocab = 61;
using model_type = tiered<hash_model<16>>;

TEST_CASE("a job gives the same with pages that went to the host and came back") {
  for (std::size_t const prefetch : {0u, 1u, 8u}) {
    auto jobs = some_jobs(80, vocab, 100);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      jobs[i].prompt = some_tokens(40 + i % 60, vocab, i % 7);
      jobs[i].prompt.push_back(static_cast<token_id>(i % vocab));
      jobs[i].max_rq_tokens = 5 + static_cast<int>(i % 9);
    }
    model_type model{20, 40, vocab};
    letters const names{vocab};
    noisy sampler;
    generator<model_type> gen{
      model, sampler, names, {.max_batch = 4, .defragment = 2, .prefetch = prefetch}};
    std::vector<tpx::job> handles;
    for (auto const& job : jobs) { handles.push_back(gen.enqueue(job)); }
    while (gen.step()) { gen.pages().validate(); }
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      REQUIRE(handles[i].wait(no_time).front().tokens == expected(jobs[i], vocab));
    }
    REQUIRE(model.fetched > 20);
  }
}

/// A prompt of six pages that only the host has, a job that runs, and one with that prompt which
/// waits for it.
struct waiting_prompt {
  explicit waiting_prompt(std::size_t prefetch)
      : gen{model, sampler, names, {.max_batch = 1, .prefetch = prefetch}} {
    gen.enqueue({.prompt = prompt, .max_new_tokens = 1});
    gen.drain();
    for (std::size_t i = 0; i < 6; ++i) {
      gen.enqueue({.prompt = some_tokens(90, vocab, 50 + i), .max_new_tokens = 1});
    }
    gen.drain();
    fetched = model.fetched;
    gen.enqueue({.prompt = some_tokens(10, vocab, 70), .max_new_tokens = 20});
    late.emplace(gen.enqueue({.prompt = prompt, .max_new_tokens = 3}));
  }

  std::vector<token_id> prompt = some_tokens(6 * 16 + 5, vocab, 1);
  model_type model{20, 60, vocab};
  letters names{vocab};
  noisy sampler;
  generator<model_type> gen;
  std::size_t fetched = 0;
  std::optional<tpx::job> late;
};

TEST_CASE("host pages of a job that waits come back while another runs, a few a step") {
  waiting_prompt w{4};
  std::vector<std::size_t> in_step;
  auto before = w.model.fetched;
  for (int step = 0; step < 20; ++step) {
    REQUIRE(w.gen.step());
    auto const now = w.model.fetched;
    in_step.push_back(now - before);
    before = now;
  }
  REQUIRE(w.gen.waiting() == 1);
  CHECK(w.model.fetched == w.fetched + 6);
  CHECK(*std::max_element(in_step.begin(), in_step.end()) == 4);
  CHECK(std::count(in_step.begin(), in_step.end(), 0u) == 18);
  auto const computed = w.model.computed;
  w.gen.drain();
  CHECK(w.model.fetched == w.fetched + 6);
  CHECK(w.model.computed == computed + 5 + 2);
  auto const all = w.late->wait(no_time);
  CHECK(all.front().tokens == expected({.prompt = w.prompt, .max_new_tokens = 3}, vocab));
}

TEST_CASE("without prefetch host pages come back when their job is admitted") {
  waiting_prompt w{0};
  for (int step = 0; step < 20; ++step) { REQUIRE(w.gen.step()); }
  REQUIRE(w.gen.waiting() == 1);
  CHECK(w.model.fetched == w.fetched);
  w.gen.drain();
  CHECK(w.model.fetched == w.fetched + 6);
}

}  // namespace
