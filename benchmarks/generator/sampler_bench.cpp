// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Times chains of the sampler over one row of 128,256 logits. Flat: normal of deviation 1; peaked:
// thirty tokens far above the rest, as models give them. Two rows in turn, which stay in the second
// cache, where a model on the same core would have just written them.
#include <tpx/generator/sampler.hpp>

#include <benchmark/benchmark.h>
#include <random>
#include <vector>

namespace {

using namespace tpx;
using namespace tpx::sample;

constexpr std::size_t vocab = 128'256;

std::vector<float> logits(bool peaked, unsigned seed) {
  std::mt19937 random{seed};
  std::normal_distribution<float> normal;
  std::vector<float> made(vocab);
  for (float& x : made) { x = peaked ? 3 * normal(random) - 8 : normal(random); }
  for (int i = 0; peaked && i < 30; ++i) { made[random() % vocab] = 6 + 2 * normal(random); }
  return made;
}

template <class Chain>
void run(benchmark::State& state, typename Chain::parameters const& chosen, bool peaked,
         int allowed_in_64 = -1) {
  std::vector<std::vector<float>> rows;
  for (unsigned i = 0; i < 2; ++i) { rows.push_back(logits(peaked, i)); }
  std::mt19937 random{9};
  std::vector<token_id> history(64);
  for (token_id& t : history) { t = static_cast<token_id>(random() % vocab); }
  std::vector<std::uint32_t> mask(allowed_in_64 < 0 ? 0 : vocab / 32);
  for (std::size_t t = 0; t < 32 * mask.size(); ++t) {
    if (random() % 64 < static_cast<unsigned>(allowed_in_64)) { mask[t / 32] |= 1u << t % 32; }
  }
  Chain chain{{.columns = vocab}};
  std::uint64_t step = 0;
  for (auto _ : state) {
    auto const drawn = chain.sample({.logits = rows[step % rows.size()],
                                     .history = history,
                                     .mask = mask,
                                     .seed = 1,
                                     .step = step},
                                    chosen);
    benchmark::DoNotOptimize(drawn.token);
    ++step;
  }
}

using greedy = sampler<Argmax>;
using usual = sampler<Penalties, TopK, TopP, MinP, Temperature, Gumbel>;
using min_p = sampler<MinP, Temperature, Gumbel>;
using top_p = sampler<TopP, Gumbel>;

usual::parameters const usual_values{Penalties{.repetition = 1.1f}, TopK{40}, TopP{0.95f},
                                     MinP{0.05f}, Temperature{0.8f}};
min_p::parameters const min_p_values{MinP{0.05f}, Temperature{0.8f}};

void pick_greedy(benchmark::State& s) {
  run<greedy>(s, {}, s.range(0) != 0);
}
void pick_usual(benchmark::State& s) {
  run<usual>(s, usual_values, s.range(0) != 0);
}
void pick_min_p(benchmark::State& s) {
  run<min_p>(s, min_p_values, s.range(0) != 0);
}
void pick_top_p(benchmark::State& s) {
  run<top_p>(s, {TopP{0.95f}}, s.range(0) != 0);
}
void pick_masked(benchmark::State& s) {
  run<greedy>(s, {}, false, static_cast<int>(s.range(0)));
}

}  // namespace

BENCHMARK(pick_greedy)->ArgName("peaked")->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);
BENCHMARK(pick_usual)->ArgName("peaked")->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);
BENCHMARK(pick_min_p)->ArgName("peaked")->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);
BENCHMARK(pick_top_p)->ArgName("peaked")->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);
BENCHMARK(pick_masked)
  ->ArgName("allowed/64")
  ->Arg(1)
  ->Arg(32)
  ->Arg(63)
  ->Arg(64)
  ->Unit(benchmark::kMicrosecond);

BENCHMARK_MAIN();
