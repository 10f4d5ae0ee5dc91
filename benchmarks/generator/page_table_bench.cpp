// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The page table's cost on the host: hashing, admission with and without hits, a decode step.
#include <tpx/generator/page_table.hpp>

#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace {

using table = tpx::page_table<256>;
using text = std::vector<tpx::token_id>;

text some_text(std::size_t n, unsigned seed) {
  std::mt19937 random{seed};
  text t(n);
  for (auto& x : t) { x = static_cast<tpx::token_id>(random() % 128'256); }
  return t;
}

void fill(table& t, table::sequence_id s, std::span<tpx::token_id const> tokens) {
  t.prepare(s, tokens.size());
  t.append(s, tokens);
}

/// A cache full of prompts of 16 pages, none of which comes twice: each evicts the oldest.
struct full_cache {
  explicit full_cache(std::size_t pages, std::size_t host_pages = 0)
      : t{{.pages = pages, .host_pages = host_pages, .max_sequences = 8}},
        prompt{some_text(4096, 1)} {
    for (std::size_t i = 0; i < (pages + host_pages) / 16 + 2; ++i) { write(); }
  }

  text const& next() {
    ++prompt[0];
    return prompt;
  }

  void write() {
    auto const s = t.open(next(), 256)->sequence;
    fill(t, s, prompt);
    t.close(s);
    t.copies_done();
    t.evicted_done();
  }

  table t;
  text prompt;
};

/// Times single calls: google benchmark's mean, and a median that others on the machine move less.
class stopwatch {
 public:
  template <class Call>
  auto time(benchmark::State& state, Call&& call) {
    auto const begin = std::chrono::steady_clock::now();
    auto result = call();
    std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(took.count());
    samples_.push_back(took.count());
    return result;
  }

  void report(benchmark::State& state) {
    auto const middle = samples_.begin() + static_cast<std::ptrdiff_t>(samples_.size() / 2);
    std::nth_element(samples_.begin(), middle, samples_.end());
    state.counters["median_ns"] = *middle * 1e9;
  }

 private:
  std::vector<double> samples_;
};

void hash_256_tokens(benchmark::State& state) {
  text const tokens = some_text(256 * 64, 2);
  tpx::hash128 key{};
  std::size_t i = 0;
  for (auto _ : state) {
    key = tpx::MultiplyMix::chain(key, std::span{tokens}.subspan(i++ % 64 * 256, 256));
  }
  benchmark::DoNotOptimize(key);
}
BENCHMARK(hash_256_tokens);

/// Only the admission: 17 pages are claimed, all of which hold something.
void admit_17_pages_all_evicting(benchmark::State& state) {
  full_cache cache{static_cast<std::size_t>(state.range(0))};
  stopwatch watch;
  for (auto _ : state) {
    text const& prompt = cache.next();
    auto const made = watch.time(state, [&] { return cache.t.open(prompt, 256); });
    fill(cache.t, made->sequence, prompt);
    cache.t.close(made->sequence);
    cache.t.evicted_done();
  }
  watch.report(state);
}
BENCHMARK(admit_17_pages_all_evicting)->UseManualTime()->RangeMultiplier(4)->Range(256, 65'536);

/// A sequence's whole life: admission, 16 pages written and named, the old ones forgotten, close.
void whole_sequence_of_17_pages(benchmark::State& state) {
  full_cache cache{static_cast<std::size_t>(state.range(0)),
                   static_cast<std::size_t>(state.range(1))};
  for (auto _ : state) { cache.write(); }
}
BENCHMARK(whole_sequence_of_17_pages)->ArgsProduct({{256, 4096, 65'536}, {0, 4096}});

/// The same, and nothing is written: every page is again what it was.
void admit_and_cancel_17_pages(benchmark::State& state) {
  full_cache cache{static_cast<std::size_t>(state.range(0))};
  for (auto _ : state) { cache.t.close(cache.t.open(cache.next(), 256)->sequence); }
}
BENCHMARK(admit_and_cancel_17_pages)->RangeMultiplier(4)->Range(256, 65'536);

void admit_16_pages_all_there(benchmark::State& state) {
  full_cache cache{static_cast<std::size_t>(state.range(0))};
  text prompt = some_text(4097, 3);
  auto const s = cache.t.open(prompt, 0)->sequence;
  fill(cache.t, s, prompt);
  cache.t.close(s);
  for (auto _ : state) { cache.t.close(cache.t.open(prompt, 0)->sequence); }
}
BENCHMARK(admit_16_pages_all_there)->RangeMultiplier(16)->Range(256, 65'536);

/// A decode step of one sequence, in a page that is long enough.
void append_one_token(benchmark::State& state) {
  full_cache cache{1024};
  auto const s = cache.t.open(some_text(256, 4), 256 * 1000)->sequence;
  fill(cache.t, s, some_text(256, 4));
  tpx::token_id token = 0;
  for (auto _ : state) {
    fill(cache.t, s, std::span{&token, 1});
    if (++token == 200'000) {
      state.PauseTiming();
      cache.t.rewind(s, 256);
      token = 0;
      state.ResumeTiming();
    }
  }
}
BENCHMARK(append_one_token);

void plan_and_move_64_pages(benchmark::State& state) {
  auto const pages = static_cast<std::size_t>(state.range(0));
  table t{{.pages = pages, .max_sequences = 16}};
  std::vector<table::sequence_id> open;
  for (unsigned i = 0; i < 16; ++i) { open.push_back(t.open(some_text(1, i), 0)->sequence); }
  for (std::size_t i = 0; i + 16 < pages; ++i) {  // they grow in turns
    auto const s = open[i % 16];
    if (!t.grow(s, 256)) { break; }
    fill(t, s, some_text(256, static_cast<unsigned>(i)));
  }
  for (auto const s : open) { t.close(s); }
  std::size_t moves = 0;
  for (auto _ : state) {
    std::size_t const n = t.defragment(64);
    moves += n;
    t.copies_done();
  }
  state.counters["moves"] = static_cast<double>(moves);
  state.counters["fragmentation"] = t.stats().fragmentation;
}
BENCHMARK(plan_and_move_64_pages)->Arg(256)->Arg(4096)->Iterations(64);

}  // namespace
