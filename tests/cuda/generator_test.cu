// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A generator whose logits are in a GPU's memory, and stay there, gives what one with a sampler on
// the host does.
#include "generator/batch_world.hpp"
#include "generator/foresight.hpp"
#include "stream.cuh"

#include <tpx/cuda/sampler_rows.cuh>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace fake;
using namespace tpx::sample;
using tpx::detail::cuda_check;

bool no_gpu() {
  int n = 0;
  return cudaGetDeviceCount(&n) != cudaSuccess || n == 0;
}

/// Its logits are in device memory, written in the order of a stream.
class gpu_model : public hash_model<16> {
 public:
  gpu_model(std::size_t pages, std::size_t vocab, std::size_t rows, cudaStream_t on)
      : hash_model<16>{pages, vocab},
        there_{tpx::detail::make_device_array<float>(rows * vocab)},
        room_{rows * vocab},
        on_{on} {}

  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = hash_model<16>::forward(parts);
    tpx::expects(logits.size() <= room_, "too many rows");
    cuda_check(cudaMemcpyAsync(there_.get(), logits.data(), logits.size_bytes(),
                               cudaMemcpyHostToDevice, on_),
               "writing logits");
    return {there_.get(), logits.size()};
  }

 private:
  tpx::detail::device_array<float> there_;
  std::size_t room_;
  cudaStream_t on_;
};

template <class... Stages>
struct both {
  using chain = tpx::sampler<Stages...>;
  using rows = tpx::cuda_sampler_rows<Stages...>;
  using job = tpx::job_options<typename chain::parameters>;

  /// "" if a GPU gives what the host does.
  template <class Drafter = tpx::no_drafter>
  static std::string compare(std::vector<job> const& jobs, std::size_t pages, std::size_t vocab,
                             tpx::generator_options const& how, Drafter drafter = {}) {
    chain host{{.columns = vocab}};
    hash_model<16> model{pages, vocab};
    auto on_host = drafter;
    auto const right = run(jobs, model, host, on_host, how);
    stream const on;
    gpu_model there{pages, vocab, 8 * how.max_batch, on};
    rows kept{{.columns = vocab, .rows = how.max_batch, .max_history = 256, .max_top = 3}, on};
    tpx::batch_sampler sampler{kept};
    auto const found = run(jobs, there, sampler, drafter, how);
    if (there.steps != model.steps) { return "another number of steps"; }
    auto const failed = std::count_if(right.all.begin(), right.all.end(),
                                      [](auto const& g) { return !g.error.empty(); });
    return failed != 0 ? "jobs failed" : difference(found, right, 1e-5f);
  }
};

using usual = both<LogitBias, Penalties, Dry, TopK, TopP, Xtc, Mirostat2, Temperature, Gumbel>;

TEST_CASE("a generator gives the same where logits stay on a GPU", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  for (std::size_t const vocab : {61u, 5003u}) {
    auto const jobs = all_kinds<usual::chain>(64, vocab);
    REQUIRE(usual::compare(jobs, 600, vocab, {.max_batch = 32}) == "");
    for (std::size_t i = 0; i < 20; ++i) {
      REQUIRE(usual::compare({jobs[i]}, 40, vocab, {.max_batch = 6}) == "");
    }
  }
}

TEST_CASE("rows on a GPU follow preemption and re-queueing", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  auto jobs = all_kinds<usual::chain>(64, 61);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].max_rq_tokens = 3 + static_cast<int>(i % 9);
    jobs[i].priority = static_cast<int>(mix(i) / 10 % 3);
  }
  REQUIRE(usual::compare(jobs, 30, 61, {.max_batch = 8, .defragment = 2}) == "");
}

TEST_CASE("drafts are verified on a GPU as on the host", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  constexpr std::size_t vocab = 61;
  auto jobs = all_kinds<usual::chain>(64, vocab);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].sampling.set(Temperature{i % 2 == 0 ? 0.01f : 0.1f});
    jobs[i].max_draft = static_cast<int>(i % 6);
    jobs[i].max_rq_tokens = 5 + static_cast<int>(i % 30);
    if (i % 8 == 3) { jobs[i].filter = tpx::allowed_tokens{vocab, std::vector<token_id>{2, 3}}; }
  }
  REQUIRE(usual::compare(jobs, 100, vocab, {.max_batch = 16}, foresight{vocab, 5}) == "");
}

TEST_CASE("a chain without a history keeps none on a GPU", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using plain = both<TopP, Temperature, Gumbel>;
  auto const jobs = all_kinds<plain::chain>(40, 777);
  REQUIRE(plain::compare(jobs, 600, 777, {.max_batch = 32}) == "");
}

TEST_CASE("a text that outgrows a GPU's history fails its job alone", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  constexpr std::size_t vocab = 61;
  stream const on;
  gpu_model model{40, vocab, 8, on};
  usual::rows kept{{.columns = vocab, .rows = 8, .max_history = 20, .max_top = 3}, on};
  tpx::batch_sampler sampler{kept};
  letters const names{vocab};
  tpx::generator<gpu_model, decltype(sampler), letters> gen{
    model, sampler, names, {.max_batch = 8}};
  auto const longer = gen.enqueue({.prompt = some_tokens(10, vocab, 1), .max_new_tokens = 12});
  auto const shorter = gen.enqueue({.prompt = some_tokens(10, vocab, 2), .max_new_tokens = 11});
  auto const beyond = gen.enqueue({.prompt = some_tokens(21, vocab, 3), .max_new_tokens = 2});
  gen.drain();
  REQUIRE(longer.wait(no_time).front().error.find("raise max_history") != std::string::npos);
  REQUIRE(longer.wait(no_time).front().tokens.size() == 11);
  REQUIRE(shorter.wait(no_time).front().reason == finish_reason::max_new_tokens);
  REQUIRE(beyond.wait(no_time).front().reason == finish_reason::failed);
}

TEST_CASE("a logit that is not a number fails its job alone on a GPU", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  constexpr std::size_t vocab = 61;
  stream const on;
  gpu_model model{400, vocab, 32, on};
  model.nan_after = 7;
  usual::rows kept{{.columns = vocab, .rows = 32, .max_history = 256, .max_top = 3}, on};
  tpx::batch_sampler sampler{kept};
  usual::chain host{{.columns = vocab}};
  hash_model<16> host_model{400, vocab};
  host_model.nan_after = 7;
  tpx::no_drafter none;
  auto const jobs = all_kinds<usual::chain>(24, vocab);
  auto const right = run(jobs, host_model, host, none, {.max_batch = 32});
  REQUIRE(std::any_of(right.all.begin(), right.all.end(),
                      [](auto const& g) { return g.reason == finish_reason::failed; }));
  auto const unplaced = [](outcome of) {  // errors without the file and line that threw them
    for (auto& g : of.all) {
      if (!g.error.empty()) { g.error = g.error.substr(g.error.find("sampler: ")); }
    }
    return of;
  };
  auto const found = run(jobs, model, sampler, none, {.max_batch = 32});
  REQUIRE(difference(unplaced(found), unplaced(right), 1e-5f) == "");
}

}  // namespace
