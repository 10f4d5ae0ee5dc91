// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The host's share of a decode step, with a model that takes no time: BM_step/jobs with a sampler
// that takes none either, BM_step_argmax/jobs with the shortest chain on a vocabulary of 256, whose
// cost a row is the rest, and BM_step_drafts/jobs with n-gram drafts, too.
#include "../../tests/generator/fake_models.hpp"

#include <tpx/generator/generator.hpp>
#include <tpx/generator/ngram_draft.hpp>
#include <tpx/generator/sampler.hpp>

#include <benchmark/benchmark.h>

namespace {

constexpr std::size_t vocab = 256;

struct null_sampler {
  struct parameters {};
  struct state {};
  tpx::sampled sample(tpx::sample_request const&, parameters const&, state&) {
    return {.token = 1};
  }
};
using chain = tpx::sampler<tpx::sample::Argmax>;

template <class Sampler, class Drafter>
void steps(benchmark::State& state, Sampler sampler, Drafter& drafter, int drafts) {
  auto const jobs = static_cast<std::size_t>(state.range(0));
  fake::null_model model{10 * jobs, vocab, 16 * jobs};
  fake::letters const names{vocab};
  tpx::generator<fake::null_model, Sampler, fake::letters, Drafter> gen{
    model, sampler, names, drafter, {.max_batch = jobs, .token_budget = 4096 + jobs}};
  std::vector<tpx::job> handles;
  auto const refill = [&] {
    while (gen.running() + gen.waiting() > 0) {
      for (auto const& h : handles) { h.cancel(); }
      gen.drain();
    }
    handles.clear();
    for (std::size_t j = 0; j < jobs; ++j) {
      handles.push_back(gen.enqueue({.prompt = {static_cast<tpx::token_id>(j % vocab), 2, 3},
                                     .max_new_tokens = 2000,
                                     .stop_strings = {"never", "ever"},
                                     .max_draft = drafts,
                                     .max_rq_tokens = 2000}));
    }
    for (int i = 0; i < 40; ++i) { gen.step(); }
  };
  refill();
  std::size_t done = 0;
  for (auto _ : state) {
    if (++done % (drafts > 0 ? 300 : 1800) == 0) {
      state.PauseTiming();
      refill();
      state.ResumeTiming();
    }
    gen.step();
  }
  state.counters["ns/job"] =
    benchmark::Counter(static_cast<double>(jobs) * 1e-9,
                       benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void BM_step(benchmark::State& state) {
  tpx::no_drafter none;
  steps(state, null_sampler{}, none, 0);
}
BENCHMARK(BM_step)->Arg(1)->Arg(32)->Arg(256)->Unit(benchmark::kMicrosecond);

void BM_step_argmax(benchmark::State& state) {
  tpx::no_drafter none;
  steps(state, chain{{.columns = vocab}}, none, 0);
}
BENCHMARK(BM_step_argmax)->Arg(1)->Arg(32)->Arg(256)->Unit(benchmark::kMicrosecond);

void BM_step_drafts(benchmark::State& state) {
  tpx::ngram_drafter drafter{static_cast<std::size_t>(state.range(0))};
  steps(state, null_sampler{}, drafter, 4);
}
BENCHMARK(BM_step_drafts)->Arg(1)->Arg(32)->Unit(benchmark::kMicrosecond);

}  // namespace
