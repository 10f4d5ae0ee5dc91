// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// sampler_bench [repetitions]: times chains of the sampler on one GPU over rows of 128,256 logits,
// by batch and by the blocks that share a row, in a CUDA graph of 20 samples, and compares each
// token with the Cpu space's. Flat and peaked rows are those of
// benchmarks/generator/sampler_bench.cpp. Batches of a graph lie in different places, and between
// two graphs as much as several L2s is overwritten, so that logits come from memory; `warm` rows
// sample one batch again and again, as behind a model that has just written it.
#include <tpx/cuda/sampler.cuh>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace {

using namespace tpx;
using namespace tpx::sample;
using tpx::detail::cuda_check;

constexpr std::size_t vocab = 128'256;
constexpr int in_graph = 20;
constexpr std::size_t most_rows = 64;
constexpr std::size_t history_size = 64;

/// Sixteen rows of host logits, which batches repeat.
std::vector<float> host_rows(bool peaked) {
  std::vector<float> made;
  for (unsigned seed = 0; seed < 16; ++seed) {
    std::mt19937 random{seed};
    std::normal_distribution<float> normal;
    std::size_t const at = made.size();
    for (std::size_t i = 0; i < vocab; ++i) {
      made.push_back(peaked ? 3 * normal(random) - 8 : normal(random));
    }
    for (int i = 0; peaked && i < 30; ++i) { made[at + random() % vocab] = 6 + 2 * normal(random); }
  }
  return made;
}

template <class T>
struct rows_on_gpu {
  std::vector<float> host;
  detail::device_array<T> memory;
  std::size_t batches;  // of 64 rows

  explicit rows_on_gpu(bool peaked, std::size_t n) : host{host_rows(peaked)}, batches{n} {
    std::vector<T> batch(most_rows * vocab);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      batch[i] = static_cast<T>(host[i % host.size()]);
    }
    for (std::size_t i = 0; i < host.size(); ++i) { host[i] = static_cast<float>(batch[i]); }
    memory = detail::make_device_array<T>(batches * batch.size());
    for (std::size_t b = 0; b < batches; ++b) {
      cuda_check(cudaMemcpy(memory.get() + b * batch.size(), batch.data(), batch.size() * sizeof(T),
                            cudaMemcpyDefault),
                 "copying");
    }
  }
};

float median(std::vector<float>& of) {
  std::sort(of.begin(), of.end());
  return of[of.size() / 2];
}

int wrong_tokens = 0;

template <class T, class... Stages>
void time_chain(char const* name, char const* kind, rows_on_gpu<T> const& rows,
                sample_parameters<Stages...> const& chosen, std::size_t batch, unsigned blocks,
                bool masked, bool warm, int repetitions) {
  using gpu_chain = cuda_sampler<Stages...>;
  gpu_chain gpu{{.columns = vocab, .rows = batch, .max_history = 128, .blocks = blocks}};
  std::mt19937 random{9};
  std::vector<token_id> history(history_size);
  for (token_id& t : history) { t = static_cast<token_id>(random() % vocab); }
  std::vector<std::uint32_t> mask(vocab / 32);
  for (std::uint32_t& w : mask) { w = static_cast<std::uint32_t>(random() | random()); }
  auto const there = detail::make_device_array<token_id>(history_size);
  auto const mask_there = detail::make_device_array<std::uint32_t>(mask.size());
  cuda_check(cudaMemcpy(there.get(), history.data(), history_size * 4, cudaMemcpyDefault), "copy");
  cuda_check(cudaMemcpy(mask_there.get(), mask.data(), mask.size() * 4, cudaMemcpyDefault), "copy");
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  for (std::size_t r = 0; r < batch; ++r) {
    gpu.set(r,
            {.history = {there.get(), history_size},
             .history_size = history_size,
             .mask = {mask_there.get(), masked ? mask.size() : 0},
             .seed = r},
            chosen, {}, stream);
  }
  std::size_t const places = rows.batches * (most_rows / batch);  // of batches in memory
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
  for (std::size_t i = 0; i < in_graph; ++i) {
    std::size_t const at = warm ? 0 : i * 7 % places * batch;
    gpu.sample(rows.memory.get() + at * vocab, batch, stream);
  }
  cuda_check(cudaStreamEndCapture(stream, &graph), "capturing");
  cuda_check(cudaGraphInstantiate(&exec, graph, 0), "a graph");
  cudaEvent_t from = nullptr;
  cudaEvent_t to = nullptr;
  cuda_check(cudaEventCreate(&from), "an event");
  cuda_check(cudaEventCreate(&to), "an event");
  std::vector<float> us;
  constexpr std::size_t several_l2s = std::size_t{256} << 20;
  auto const other = detail::make_device_array<char>(several_l2s);
  for (int i = 0; i < repetitions + 3; ++i) {
    if (!warm) { cuda_check(cudaMemsetAsync(other.get(), i, several_l2s, stream), "an L2"); }
    cuda_check(cudaEventRecord(from, stream), "timing");
    cuda_check(cudaGraphLaunch(exec, stream), "timing");
    cuda_check(cudaEventRecord(to, stream), "timing");
    cuda_check(cudaStreamSynchronize(stream), "timing");
    float ms = 0;
    cuda_check(cudaEventElapsedTime(&ms, from, to), "timing");
    if (i >= 3) { us.push_back(ms * 1000 / in_graph); }
  }
  // The last sample of the last graph, by the Cpu space; its first rows.
  std::uint64_t const step = static_cast<std::uint64_t>(repetitions + 3) * in_graph - 1;
  std::size_t const last = warm ? 0 : (in_graph - 1) * 7 % places * batch;
  sampler<Stages...> cpu{{.columns = vocab}};
  int wrong = 0;
  for (std::size_t r = 0; r < std::min<std::size_t>(batch, 4); ++r) {
    typename sampler<Stages...>::state none{};
    auto const right = cpu.sample({.logits = {rows.host.data() + (last + r) % 16 * vocab, vocab},
                                   .history = history,
                                   .mask = {mask.data(), masked ? mask.size() : 0},
                                   .seed = r,
                                   .step = step},
                                  chosen, none);
    wrong += gpu.results()[r].token != right.token;
  }
  wrong_tokens += wrong;
  float const mid = median(us);
  double const gigabytes =
    static_cast<double>(batch * vocab * sizeof(T)) / static_cast<double>(mid) * 1e-3;
  std::printf("%-8s %-7s %-5s %-5s %5zu %6u %8.2f %8.2f %7.0f  %s\n", name, kind,
              sizeof(T) == 2 ? "bf16" : "fp32", warm ? "warm" : "cold", batch, blocks,
              static_cast<double>(us.front()), static_cast<double>(mid), gigabytes,
              wrong == 0 ? "ok" : "WRONG TOKENS");
  std::fflush(stdout);
  cudaEventDestroy(from);
  cudaEventDestroy(to);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

template <class T>
void all(std::size_t batch, unsigned blocks, bool warm, int repetitions, rows_on_gpu<T> const& flat,
         rows_on_gpu<T> const& peaked) {
  using usual = sample_parameters<Penalties, TopK, TopP, MinP, Temperature, Gumbel>;
  using no_penalties = sample_parameters<TopK, TopP, MinP, Temperature, Gumbel>;
  using min_p = sample_parameters<MinP, Temperature, Gumbel>;
  using top_p = sample_parameters<TopP, Gumbel>;
  using greedy = sample_parameters<Argmax>;
  auto const both = [&](char const* name, auto const& chosen, bool masked) {
    time_chain(name, "flat", flat, chosen, batch, blocks, masked, warm, repetitions);
    time_chain(name, "peaked", peaked, chosen, batch, blocks, masked, warm, repetitions);
  };
  time_chain("greedy", "flat", flat, greedy{}, batch, blocks, false, warm, repetitions);
  time_chain("masked", "flat", flat, greedy{}, batch, blocks, true, warm, repetitions);
  both("min-p", min_p{MinP{0.05f}, Temperature{0.8f}}, false);
  both("top-k", no_penalties{TopK{40}, Temperature{0.8f}}, false);
  both("top-p", top_p{TopP{0.95f}}, false);
  both("usual",
       usual{Penalties{.repetition = 1.1f}, TopK{40}, TopP{0.95f}, MinP{0.05f}, Temperature{0.8f}},
       false);
}

}  // namespace

int main(int argc, char** argv) {
  int const repetitions = argc > 1 ? std::atoi(argv[1]) : 20;
  std::printf("%-8s %-7s %-5s %-5s %5s %6s %8s %8s %7s\n", "chain", "logits", "type", "L2", "batch",
              "blocks", "min us", "us", "GB/s");
  rows_on_gpu<float> const flat{false, 4};
  rows_on_gpu<float> const peaked{true, 4};
  for (std::size_t const batch : {1, 8, 64}) {
    for (unsigned const blocks : {0u, 16u, 8u, 4u, 2u}) {
      all(batch, blocks, false, repetitions, flat, peaked);
    }
  }
  for (std::size_t const batch : {1, 64}) { all(batch, 0, true, repetitions, flat, peaked); }
  rows_on_gpu<bfloat16> const flat2{false, 4};
  rows_on_gpu<bfloat16> const peaked2{true, 4};
  for (std::size_t const batch : {1, 64}) { all(batch, 0, false, repetitions, flat2, peaked2); }
  std::printf("%s\n", wrong_tokens == 0 ? "all tokens as the Cpu space's" : "WRONG TOKENS");
  return wrong_tokens == 0 ? 0 : 1;
}
