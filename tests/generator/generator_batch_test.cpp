// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A generator with a sampler that keeps its rows elsewhere and draws a whole step at once gives
// what one with a sampler on the host does.
#include "../counting_new.hpp"
#include "batch_world.hpp"
#include "foresight.hpp"
#include "kept_rows.hpp"

#include <catch2/catch_test_macros.hpp>

#include <string>

namespace {

using namespace fake;
using namespace tpx::sample;

constexpr std::size_t vocab = 61;

using chain =
  tpx::sampler<LogitBias, Penalties, Dry, TopK, TopP, Xtc, Mirostat2, Temperature, Gumbel>;
using rows = kept_rows<chain>;
using job_of_chain = tpx::job_options<chain::parameters>;

/// With the host's sampler and with rows kept elsewhere; "" if they give the same. `kept` is what
/// the second took.
template <class Drafter>
std::string compare(std::vector<job_of_chain> const& jobs, std::size_t pages, Drafter drafter,
                    tpx::generator_options const& how, outcome& kept) {
  chain host{{.columns = vocab}};
  rows there{vocab, how.max_batch};
  tpx::batch_sampler sampler{there};
  auto on_host = drafter;
  hash_model<16> model{pages, vocab};
  auto const right = run(jobs, model, host, on_host, how);
  kept = run(jobs, model, sampler, drafter, how);
  kept.steps -= right.steps;
  if (kept.steps != right.steps) { return "another number of steps"; }
  return difference(kept, right);
}

std::string compare(std::vector<job_of_chain> const& jobs, std::size_t pages,
                    tpx::generator_options const& how = {}) {
  outcome kept;
  return compare(jobs, pages, tpx::no_drafter{}, how, kept);
}

TEST_CASE("a job alone gives the same with its row kept elsewhere") {
  for (auto const& job : all_kinds<chain>(30, vocab)) {
    REQUIRE(compare({job}, 40, {.max_batch = 6}) == "");
  }
}

TEST_CASE("a batch gives the same with rows kept elsewhere") {
  REQUIRE(compare(all_kinds<chain>(64, vocab), 600, {.max_batch = 32}) == "");
}

TEST_CASE("rows kept elsewhere follow preemption and re-queueing") {
  auto jobs = all_kinds<chain>(64, vocab);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].max_rq_tokens = 3 + static_cast<int>(i % 9);
    jobs[i].priority = static_cast<int>(mix(i) / 10 % 3);
  }
  outcome kept;
  REQUIRE(compare(jobs, 30, tpx::no_drafter{}, {.max_batch = 8, .defragment = 2}, kept) == "");
  REQUIRE(kept.preempted > 0);
  REQUIRE(kept.requeued > 50);
}

TEST_CASE("drafts are verified by rows kept elsewhere as on the host") {
  auto jobs = all_kinds<chain>(64, vocab);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].sampling.set(Temperature{i % 2 == 0 ? 0.01f : 0.1f});
    jobs[i].max_draft = static_cast<int>(i % 6);
    jobs[i].max_rq_tokens = 5 + static_cast<int>(i % 30);
    if (i % 8 == 3) { jobs[i].filter = tpx::allowed_tokens{vocab, std::vector<token_id>{2, 3}}; }
  }
  outcome kept;
  REQUIRE(compare(jobs, 100, foresight{vocab, 5}, {.max_batch = 16}, kept) == "");
  REQUIRE(kept.accepted > 50);
}

TEST_CASE("a row that is wrong fails its job alone, and says what the host's would") {
  auto const jobs = all_kinds<chain>(12, vocab);
  chain host{{.columns = vocab}};
  rows there{vocab, 32};
  tpx::batch_sampler sampler{there};
  letters const names{vocab};
  auto const go = [&](auto& s) {
    hash_model<16> model{400, vocab};
    model.nan_after = 7;
    tpx::generator<hash_model<16>, std::remove_reference_t<decltype(s)>, letters> gen{model, s,
                                                                                      names};
    std::vector<tpx::job> handles;
    for (auto const& job : jobs) { handles.push_back(gen.enqueue(job)); }
    gen.drain();
    outcome found;
    for (auto const& h : handles) {
      for (auto& g : h.wait(no_time)) { found.all.push_back(std::move(g)); }
    }
    return found;
  };
  auto const right = go(host);
  auto const failed = [](generated const& g) { return g.reason == finish_reason::failed; };
  auto const n = std::count_if(right.all.begin(), right.all.end(), failed);
  REQUIRE((n > 2 && n < static_cast<std::ptrdiff_t>(right.all.size())));
  REQUIRE(difference(go(sampler), right) == "");
}

TEST_CASE("where a whole batch fails its jobs do, and the next ones run") {
  rows there{vocab, 8};
  there.fails_at = 3;
  tpx::batch_sampler sampler{there};
  hash_model<16> model{100, vocab};
  letters const names{vocab};
  tpx::generator<hash_model<16>, tpx::batch_sampler<rows>, letters> gen{
    model, sampler, names, {.max_batch = 8}};
  std::vector<tpx::job> handles;
  for (int i = 0; i < 3; ++i) { handles.push_back(gen.enqueue({.prompt = {1, i}})); }
  gen.drain();
  for (auto const& h : handles) {
    auto const g = h.wait(no_time).front();
    REQUIRE(g.reason == finish_reason::failed);
    REQUIRE(g.error.find("the sampler fell over") != std::string::npos);
    REQUIRE(g.tokens.size() == 2);
  }
}

TEST_CASE("a generator with a larger batch than there are rows says so") {
  rows there{vocab, 1};
  tpx::batch_sampler sampler{there};
  hash_model<16> model{100, vocab};
  letters const names{vocab};
  tpx::generator<hash_model<16>, tpx::batch_sampler<rows>, letters> gen{
    model, sampler, names, {.max_batch = 2}};
  auto const first = gen.enqueue({.prompt = {1}, .max_new_tokens = 3});
  auto const second = gen.enqueue({.prompt = {2}, .max_new_tokens = 3});
  gen.drain();
  auto const a = first.wait(no_time).front();
  auto const b = second.wait(no_time).front();
  REQUIRE((a.reason == finish_reason::failed) != (b.reason == finish_reason::failed));
  REQUIRE((a.error + b.error).find("slot 1 of 1") != std::string::npos);
}

TEST_CASE("a row kept elsewhere is told once who it is of, and a steady step allocates nothing") {
  using plain = tpx::sampler<TopP, Gumbel>;
  kept_rows<plain> there{26, 16};
  tpx::batch_sampler sampler{there};
  null_model model{100, 26, 16};
  letters const names{26};
  tpx::generator<null_model, decltype(sampler), letters> gen{
    model, sampler, names, {.max_batch = 16}};
  std::vector<tpx::job> handles;
  for (int i = 0; i < 12; ++i) {
    handles.push_back(gen.enqueue({.prompt = {i, 2}, .max_new_tokens = 400}));
  }
  for (int i = 0; i < 300; ++i) { gen.step(); }
  auto const before = allocations;
  for (int i = 0; i < 90; ++i) { gen.step(); }
  REQUIRE(allocations == before);
  REQUIRE(there.sets == 12);
  REQUIRE(there.masks == 0);
}

}  // namespace
