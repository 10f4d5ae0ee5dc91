// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Draft models in a generator. Their logits are a hash of what their own caches hold, so that a
// draft model equal to the target guesses right exactly as long as its pages are as they should be.
#include "tiered_models.hpp"
#include "world.hpp"

#include <tpx/generator/model_draft.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string>
#include <utility>

namespace {

using namespace fake;

constexpr std::size_t vocab = 61;

struct outcome {
  std::string wrong = {};  // the first difference
  std::size_t steps = 0;
  std::size_t accepted = 0;
  std::size_t rejected = 0;
  std::size_t moved = 0;      // pages, by defragmentation
  std::size_t preempted = 0;  // times that a run gave its pages up
  std::size_t computed = 0;   // tokens, by the target
};

/// Runs the jobs, `at_once` of them new every few steps; every one must give what it should.
template <class Model, class Drafter>
outcome run(std::vector<options> const& jobs, Model& model, Drafter& drafter,
            tpx::generator_options const& how, std::size_t at_once) {
  letters const names{vocab};
  noisy sampler;
  generator<Model, Drafter> gen{model, sampler, names, drafter, how};
  std::vector<tpx::job> handles;
  std::size_t step = 0;
  do {
    if (step++ % 5 == 0) {
      for (std::size_t i = 0; i < at_once && handles.size() < jobs.size(); ++i) {
        handles.push_back(gen.enqueue(jobs[handles.size()]));
      }
    }
    gen.pages().validate();
  } while (gen.step() || handles.size() < jobs.size());
  auto const metrics = gen.metrics();
  outcome found{.steps = model.steps, .moved = metrics.moved_pages, .computed = model.computed};
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    for (auto const& g : handles[i].wait(no_time)) {
      found.accepted += g.metrics.accepted_drafts;
      found.rejected += g.metrics.rejected_drafts;
      found.preempted += g.metrics.preemptions;
      if (found.wrong.empty() && g.tokens != expected(jobs[i], vocab, g.sequence)) {
        found.wrong =
          "job " + std::to_string(i) + ": " + std::string{name(g.reason)} + " " + g.error;
      }
    }
  }
  return found;
}

/// Greedy jobs of long and of common beginnings, priorities, and room for few tokens at a time;
/// every fifth without drafts.
std::vector<options> busy_jobs(std::size_t n, std::size_t seed) {
  auto jobs = some_jobs(n, vocab, 120);
  for (std::size_t i = 0; i < n; ++i) {
    auto& job = jobs[i];
    auto const any = mix(i + 1000 * seed);
    if (i % 4 != 0) {
      job.prompt = some_tokens(20 + any % 90, vocab, i % 3);
      job.prompt.push_back(static_cast<token_id>(i % vocab));
    }
    job.sampling.heat = 0;
    job.max_draft = i % 5 == 0 ? 0 : static_cast<int>(2 + i % 5);
    job.max_rq_tokens = 6 + static_cast<int>(any % 20);
    job.priority = static_cast<int>(any / 1000 % 3);
  }
  return jobs;
}

constexpr std::size_t few_pages = 24;
constexpr tpx::generator_options busy{.max_batch = 8, .token_budget = 60, .defragment = 2};

/// Right two times of three.
template <class Model>
class erring : public Model {
 public:
  using Model::Model;
  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = Model::forward(parts);
    for (std::size_t at = 0; at < logits.size(); at += this->vocab_) {
      auto const row = logits.subspan(at, this->vocab_);
      if (static_cast<int>(row[0] * 1000) % 3 == 0) { row[1] = 9; }
    }
    return logits;
  }
};

/// Throws now and then, whatever it is asked.
template <class Model>
class unreliable : public Model {
 public:
  using Model::Model;
  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = Model::forward(parts);
    may_fail();
    return logits;
  }
  void copy(std::span<page_copy const> copies) {
    may_fail();
    Model::copy(copies);
  }
  void store(page_id page, std::uint32_t host, std::size_t tokens) {
    may_fail();
    Model::store(page, host, tokens);
  }
  void fetch(std::uint32_t host, page_id page, std::size_t tokens) {
    may_fail();
    Model::fetch(host, page, tokens);
  }

 private:
  void may_fail() {
    if (mix(++calls_) % 5 == 0) { throw tpx::error{tpx::errc::cuda, "the device fell over"}; }
  }
  std::size_t calls_ = 0;
};

using plain = hash_model<16>;

template <class Draft>
outcome drafted(Draft& draft, std::vector<options> const& jobs, std::size_t pages,
                tpx::generator_options const& how, std::size_t at_once) {
  plain model{pages, vocab};
  tpx::model_draft drafter{draft, {.slots = how.max_batch, .most = 8}};
  return run(jobs, model, drafter, how, at_once);
}

/// The same with pages on the host.
template <class Draft>
outcome drafted_with_host(Draft& draft, std::vector<options> const& jobs) {
  tiered<plain> model{few_pages, 30, vocab};
  tpx::model_draft drafter{draft, {.slots = busy.max_batch, .most = 8}};
  auto const found = run(jobs, model, drafter, busy, 5);
  REQUIRE(model.fetched > 10);
  return found;
}

TEST_CASE("greedy jobs give the same with a draft model, in fewer steps") {
  auto jobs = some_jobs(24, vocab, 100);
  for (auto& job : jobs) { job.sampling.heat = 0; }
  plain idle{400, vocab};
  auto const without = drafted(idle, jobs, 400, {}, 24);
  for (auto& job : jobs) { job.max_draft = 4; }
  plain equal{400, vocab};
  auto const with = drafted(equal, jobs, 400, {}, 24);
  erring<plain> worse{400, vocab};
  auto const partly = drafted(worse, jobs, 400, {}, 24);
  REQUIRE(without.wrong == "");
  REQUIRE(with.wrong == "");
  REQUIRE(partly.wrong == "");
  CHECK(without.accepted == 0);
  CHECK(with.rejected == 0);
  CHECK(with.steps * 3 < without.steps);
  CHECK(partly.rejected > 20);
  CHECK(partly.steps < without.steps);
  CHECK(partly.steps > with.steps);
}

void follow(std::size_t seed) {
  INFO("seed " << seed);
  auto const jobs = busy_jobs(60, seed);
  {
    plain equal{few_pages, vocab};
    auto const found = drafted(equal, jobs, few_pages, busy, 5);
    REQUIRE(found.wrong == "");
    REQUIRE(found.rejected == 0);
    REQUIRE(found.accepted > 5 * jobs.size());
    REQUIRE(found.moved > 5);
    REQUIRE(found.preempted > 0);
    REQUIRE(equal.computed < found.computed);  // it reads what the target reads, and guesses
  }
  tiered<plain> equal{few_pages, 30, vocab};
  plain stays{few_pages, vocab};
  tiered<plain> narrow{few_pages, 3, vocab};
  auto const all = [&](auto& draft) {
    auto const found = drafted_with_host(draft, jobs);
    REQUIRE(found.wrong == "");
    REQUIRE(found.rejected == 0);
    REQUIRE(found.accepted > 5 * jobs.size());
  };
  all(equal);
  all(stays);
  all(narrow);
  REQUIRE(equal.fetched > 10);
  REQUIRE(stays.computed > equal.computed);  // what does not follow is read again
}

TEST_CASE("a draft model's pages follow the target's: moves, merges, preemption, host pages") {
  for (std::size_t seed = 0; seed < (sanitized ? 3 : 30); ++seed) { follow(seed); }
}

TEST_CASE("a draft model's pages follow the target's for very many jobs", "[.long]") {
  for (std::size_t seed = 0; seed < 2000; ++seed) { follow(seed); }
}

TEST_CASE("a draft model that fails now and then costs drafts, and no more") {
  for (std::size_t seed = 0; seed < (sanitized ? 3 : 30); ++seed) {
    auto const jobs = busy_jobs(60, seed);
    unreliable<tiered<plain>> draft{few_pages, 30, vocab};
    auto const found = drafted_with_host(draft, jobs);
    REQUIRE(found.wrong == "");
    REQUIRE(found.rejected == 0);
    REQUIRE(found.accepted > jobs.size());
  }
}

TEST_CASE("texts that go back from banned strings are the same with a draft model") {
  auto jobs = busy_jobs(60, 1);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].banned_strings = {"ab", "c", std::string(1, static_cast<char>('d' + i % 20))};
  }
  auto const texts = [&](int drafts) {
    for (auto& job : jobs) { job.max_draft = drafts; }
    tiered<plain> model{few_pages, 30, vocab};
    tiered<plain> draft{few_pages, 30, vocab};
    tpx::model_draft drafter{draft, {.slots = busy.max_batch, .most = 8}};
    letters const names{vocab};
    noisy sampler;
    generator<tiered<plain>, decltype(drafter)> gen{model, sampler, names, drafter, busy};
    std::vector<tpx::job> handles;
    for (auto const& job : jobs) { handles.push_back(gen.enqueue(job)); }
    while (gen.step()) { gen.pages().validate(); }
    std::vector<std::vector<token_id>> all;
    for (auto& job : handles) { all.push_back(job.wait(no_time).front().tokens); }
    return std::pair{all, model.steps};
  };
  auto const [plainly, steps] = texts(0);
  auto const [drafted_too, fewer] = texts(5);
  CHECK(plainly == drafted_too);
  CHECK(fewer < steps);
}

TEST_CASE("a draft model needs as many pages as its target") {
  plain model{few_pages, vocab};
  plain small{few_pages - 1, vocab};
  tpx::model_draft drafter{small};
  letters const names{vocab};
  noisy sampler;
  using gen = generator<plain, decltype(drafter)>;
  CHECK_THROWS_AS((gen{model, sampler, names, drafter}), tpx::error);
}

}  // namespace
