// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "../counting_new.hpp"
#include "world.hpp"

#include <tpx/generator/ngram_draft.hpp>
#include <tpx/generator/sampler.hpp>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace fake;

TEST_CASE("a steady decode step allocates nothing") {
  constexpr std::size_t vocab = 26;
  using chain = tpx::sampler<tpx::sample::TopK, tpx::sample::TopP, tpx::sample::Temperature,
                             tpx::sample::Gumbel>;
  counting_model<16> model{600, vocab};
  letters const names{vocab};
  chain sampler{{.columns = vocab}};
  tpx::ngram_drafter drafter{16, {.tokens = 1000}};
  tpx::generator<counting_model<16>, chain, letters, tpx::ngram_drafter> gen{
    model, sampler, names, drafter, {.max_batch = 16, .defragment = 1}};
  std::vector<tpx::job> handles;
  for (int i = 0; i < 12; ++i) {
    tpx::job_options<chain::parameters> job{.prompt = {static_cast<token_id>(i), 3, 9}};
    job.max_new_tokens = 400;
    job.max_rq_tokens = 400;
    job.sampling = chain::parameters{tpx::sample::Temperature{i % 2 == 0 ? 0.7f : 0.01f}};
    job.stop_strings = {"xyzzy", "plugh"};
    job.banned_strings = {"qqq"};
    job.logprobs = i % 3 == 0;
    job.top_logprobs = i % 3;
    job.max_draft = i % 4;
    job.seed = static_cast<std::uint64_t>(i);
    handles.push_back(gen.enqueue(job));
  }
  for (int i = 0; i < 60; ++i) { gen.step(); }
  REQUIRE(gen.running() == 12);
  auto const before = allocations;
  for (int i = 0; i < 40; ++i) { gen.step(); }
  REQUIRE(allocations == before);
  REQUIRE(gen.running() == 12);
}

}  // namespace
