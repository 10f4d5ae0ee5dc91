// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Host costs of drafts, checkpoints and metrics. Items are tokens where an operation has any.
#include <tpx/generator/checkpoint.hpp>
#include <tpx/generator/metrics.hpp>
#include <tpx/generator/metrics_prometheus.hpp>
#include <tpx/generator/ngram_draft.hpp>
#include <tpx/generator/rejection.hpp>
#include <tpx/generator/transaction.hpp>

#include <array>
#include <benchmark/benchmark.h>
#include <cmath>
#include <random>
#include <vector>

namespace {

using tpx::token_id;

// Like text: tokens by Zipf's law over 32,000, a third of them in stretches copied from before.
std::vector<token_id> text(std::size_t length) {
  std::mt19937 random{1};
  std::uniform_real_distribution<double> unit;
  std::vector<token_id> tokens;
  while (tokens.size() < length) {
    if (tokens.size() > 100 && random() % 40 == 0) {
      for (std::size_t from = random() % (tokens.size() - 20), i = 0; i < 20; ++i) {
        tokens.push_back(tokens[from + i]);
      }
    }
    tokens.push_back(static_cast<token_id>(std::exp(unit(random) * std::log(32000.0))));
  }
  tokens.resize(length);
  return tokens;
}

void append(benchmark::State& state) {
  auto const tokens = text(static_cast<std::size_t>(state.range(0)));
  tpx::ngram_draft draft{{.tokens = tokens.size()}};
  for (auto _ : state) {
    draft.clear();
    draft.append(tokens);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(append)->RangeMultiplier(8)->Range(512, 32768);

// The step of a decode: one token, then a draft of eight.
void append_and_propose(benchmark::State& state) {
  auto const length = static_cast<std::size_t>(state.range(0));
  auto const tokens = text(2 * length);
  tpx::ngram_draft draft{{.match = 1, .tokens = tokens.size()}};
  draft.append(std::span{tokens}.first(length));
  std::size_t at = length;
  for (auto _ : state) {
    if (at == tokens.size()) {
      state.PauseTiming();
      draft.rewind(length);
      at = length;
      state.ResumeTiming();
    }
    draft.append({&tokens[at++], 1});
    benchmark::DoNotOptimize(draft.propose(8).data());
  }
}
BENCHMARK(append_and_propose)->Arg(4096)->Arg(32768);

void rewind(benchmark::State& state) {
  auto const tokens = text(8192);
  tpx::ngram_draft draft{{.tokens = tokens.size()}};
  draft.append(tokens);
  for (auto _ : state) {
    draft.rewind(16);
    draft.append(std::span{tokens}.last(16));
  }
  state.SetItemsProcessed(state.iterations() * 16);
}
BENCHMARK(rewind);

void verify(benchmark::State& state) {
  std::vector<tpx::candidate> target;
  for (token_id t = 0; t < state.range(0); ++t) {
    target.push_back({t, static_cast<float>(1 + t % 7)});
  }
  std::uint64_t step = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(tpx::verify(target, static_cast<token_id>(step % 40), {}, 1, step));
    ++step;
  }
}
BENCHMARK(verify)->Arg(40)->Arg(1000)->Arg(128256);

// Without the copying of a state, which is the memory's speed.
void checkpoint_save(benchmark::State& state) {
  tpx::checkpoint_store store{64, static_cast<std::size_t>(state.range(0)) * 64};
  std::mt19937_64 random{1};
  for (auto _ : state) {
    store.save({random(), random()}, [](std::span<std::byte> to) { to[0] = std::byte{1}; });
  }
}
BENCHMARK(checkpoint_save)->Arg(64)->Arg(4096);

// Of a sequence of 128 pages, whose eighth checkpoint from the end is kept.
void checkpoint_find(benchmark::State& state) {
  tpx::checkpoint_store store{64, std::size_t{4096} * 64};
  std::mt19937_64 random{1};
  std::vector<tpx::hash128> keys(128);
  for (auto& key : keys) { key = {random(), random()}; }
  for (int i = 0; i < 4000; ++i) {
    store.save({random(), random()}, [](auto) {});
  }
  store.save(keys[119], [](auto) {});
  for (auto _ : state) { benchmark::DoNotOptimize(store.longest(keys).pages); }
}
BENCHMARK(checkpoint_find);

void transaction_token(benchmark::State& state) {
  struct sampler_state {
    double mu[8];
  };
  sampler_state sampler{};
  std::array<std::uint64_t, 4> counts{};
  tpx::transaction<sampler_state, std::array<std::uint64_t, 4>> t{64};
  for (auto _ : state) {
    t.begin_token(sampler, counts);
    benchmark::DoNotOptimize(++counts[0]);
  }
}
BENCHMARK(transaction_token);

void metrics_step(benchmark::State& state) {
  tpx::generator_metrics m;
  double seconds = 0.0001;
  for (auto _ : state) {
    m.add_step(33, seconds, seconds / 50);
    seconds = seconds < 1 ? seconds * 1.01 : 0.0001;
    benchmark::DoNotOptimize(m);
  }
}
BENCHMARK(metrics_step);

void metrics_text(benchmark::State& state) {
  tpx::generator_metrics m;
  m.add_step(33, 0.01, 0.001);
  for (auto _ : state) { benchmark::DoNotOptimize(tpx::metrics_prometheus(m)); }
}
BENCHMARK(metrics_text);

}  // namespace
