// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// generator_bench [steps]: what a decode step of the generator costs beside the model, whose logits
// (128,256 of a row) are in a GPU's memory: sampled there, and copied to the host and sampled
// there. Medians in us by jobs.
#include <tpx/cuda/sampler_rows.cuh>
#include <tpx/generator/generator.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace tpx;
using namespace tpx::sample;
using tpx::detail::cuda_check;

constexpr std::size_t vocab = 128'256;
constexpr std::size_t most_jobs = 64;

/// Its logits have been computed, peaked as a trained model's are.
class done_model {
 public:
  static constexpr std::size_t page_size = 256;

  done_model(bool to_host, cudaStream_t on)
      : there_{tpx::detail::make_device_array<float>(most_jobs * vocab)},
        here_{tpx::detail::make_pinned_array<float>(most_jobs * vocab)},
        to_host_{to_host},
        on_{on} {
    for (std::size_t r = 0; r < most_jobs; ++r) {
      std::mt19937 random{static_cast<unsigned>(r)};
      std::normal_distribution<float> normal;
      float* const row = here_.get() + r * vocab;
      for (std::size_t i = 0; i < vocab; ++i) { row[i] = 3 * normal(random) - 8; }
      for (int i = 0; i < 30; ++i) { row[random() % vocab] = 6 + 2 * normal(random); }
    }
    cuda_check(
      cudaMemcpy(there_.get(), here_.get(), most_jobs * vocab * sizeof(float), cudaMemcpyDefault),
      "copying");
  }
  [[nodiscard]] std::size_t vocab_size() const { return vocab; }
  [[nodiscard]] std::size_t pages() const { return 16 * most_jobs; }
  void copy(std::span<page_copy const>) {}
  std::span<float> forward(std::span<step_part const> parts) {
    std::size_t rows = 0;
    for (auto const& p : parts) { rows += p.rows; }
    if (!to_host_) { return {there_.get(), rows * vocab}; }
    cuda_check(cudaMemcpyAsync(here_.get(), there_.get(), rows * vocab * sizeof(float),
                               cudaMemcpyDefault, on_),
               "copying");
    cuda_check(cudaStreamSynchronize(on_), "copying");
    return {here_.get(), rows * vocab};
  }

 private:
  tpx::detail::device_array<float> there_;
  tpx::detail::pinned_array<float> here_;
  bool to_host_;
  cudaStream_t on_;
};

struct no_pieces {
  [[nodiscard]] std::size_t size() const { return vocab; }
  [[nodiscard]] std::string_view piece(token_id) const { return "a"; }
};

template <class Sampler>
double step_time(Sampler& sampler, std::size_t jobs, int steps, bool to_host, cudaStream_t on) {
  done_model model{to_host, on};
  no_pieces const pieces;
  generator<done_model, Sampler, no_pieces> gen{
    model, sampler, pieces, {.max_batch = most_jobs, .token_budget = 4096}};
  std::vector<job> handles;
  for (std::size_t j = 0; j < jobs; ++j) {
    handles.push_back(gen.enqueue({.prompt = {static_cast<token_id>(j), 1},
                                   .max_new_tokens = steps + 100,
                                   .sampling = {TopK{40}, TopP{0.95f}, Temperature{0.8f}},
                                   .seed = j,
                                   .max_rq_tokens = steps + 100}));
  }
  for (int i = 0; i < 20; ++i) { gen.step(); }
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) {
    auto const begun = std::chrono::steady_clock::now();
    gen.step();
    times.push_back(
      std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begun).count());
  }
  for (auto const& h : handles) { h.cancel(); }
  gen.drain();
  std::nth_element(times.begin(), times.begin() + steps / 2, times.end());
  return times[static_cast<std::size_t>(steps / 2)];
}

}  // namespace

int main(int argc, char** argv) {
  int const steps = argc > 1 ? std::atoi(argv[1]) : 200;
  cudaStream_t on = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&on, cudaStreamNonBlocking), "a stream");
  cuda_sampler_rows<TopK, TopP, Temperature, Gumbel> rows{{.columns = vocab, .rows = most_jobs},
                                                          on};
  batch_sampler on_gpu{rows};
  sampler<TopK, TopP, Temperature, Gumbel> on_host{{.columns = vocab}};
  std::printf("jobs  on the GPU  on the host, us a step\n");
  for (std::size_t const jobs : {1u, 8u, 32u, 64u}) {
    double const there = step_time(on_gpu, jobs, steps, false, on);
    double const here = step_time(on_host, jobs, steps / 4 + 1, true, on);
    std::printf("%4zu  %10.1f  %10.1f\n", jobs, there, here);
  }
  cudaStreamDestroy(on);
}
