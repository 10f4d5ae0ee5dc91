// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What goes wrong ends the job that is to blame, and no other.
#include "world.hpp"

#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/any_sampler.hpp>

#include <catch2/catch_test_macros.hpp>

#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using namespace fake;

constexpr std::size_t vocab = 40;

/// A generator with all that it needs.
template <class Model = throwing<hash_model<16>>>
struct bench {
  explicit bench(std::size_t pages, tpx::generator_options const& how = {})
      : model{pages, vocab}, gen{model, sampler, names, how} {}

  Model model;
  noisy sampler;
  letters names{vocab};
  generator<Model> gen;

  std::size_t used() { return gen.metrics().used_pages; }
};

std::string refusal(std::function<void(options&)> const& spoil) {
  bench<> b{10};
  options job{.prompt = {1, 2, 3}, .max_new_tokens = 100};
  spoil(job);
  try {
    static_cast<void>(b.gen.enqueue(job));
  } catch (tpx::error const& e) { return e.what(); }
  return "";
}

bool says(std::string const& what, char const* part) {
  return what.find(part) != std::string::npos;
}

TEST_CASE("a job that could never run is refused when it is enqueued, with the reason") {
  REQUIRE(refusal([](options&) {}) == "");
  REQUIRE(says(refusal([](options& o) { o.prompt.clear(); }), "the prompt is empty"));
  REQUIRE(says(refusal([](options& o) { o.prompt[1] = 40; }), "prompt[1] is 40"));
  REQUIRE(says(refusal([](options& o) { o.prompt[2] = -1; }), "prompt[2] is -1"));
  REQUIRE(says(refusal([](options& o) { o.stop_tokens = {99}; }), "stop_tokens[0] is 99"));
  REQUIRE(says(refusal([](options& o) { o.negative_prompt = {77}; }), "negative_prompt[0] is 77"));
  REQUIRE(says(refusal([](options& o) { o.max_new_tokens = 0; }), "max_new_tokens is 0"));
  REQUIRE(says(refusal([](options& o) { o.max_new_tokens = -5; }), "max_new_tokens is -5"));
  REQUIRE(says(refusal([](options& o) { o.min_new_tokens = 101; }), "min_new_tokens is 101"));
  REQUIRE(says(refusal([](options& o) { o.min_new_tokens = -1; }), "min_new_tokens is -1"));
  REQUIRE(says(refusal([](options& o) { o.max_rq_tokens = 0; }), "max_rq_tokens is 0"));
  REQUIRE(says(refusal([](options& o) { o.sequences = 0; }), "sequences is 0"));
  REQUIRE(
    says(refusal([](options& o) { o.sequences = 2000; }), "sequences is 2000, not 1 to 1024"));
  REQUIRE(says(refusal([](options& o) { o.top_logprobs = 41; }), "top_logprobs is 41"));
  REQUIRE(says(refusal([](options& o) { o.max_draft = 2'000'000; }), "max_draft is 2000000"));
  REQUIRE(says(refusal([](options& o) { o.max_draft = 3; }), "no drafter"));
  REQUIRE(says(refusal([](options& o) { o.stop_strings = {""}; }), "empty"));
  REQUIRE(says(refusal([](options& o) { o.banned_strings = {"\xff"}; }), "not UTF-8"));
  REQUIRE(says(refusal([](options& o) { o.text_patterns = {{.text = ""}}; }), "empty"));
  REQUIRE(says(refusal([](options& o) { o.text_patterns = {{.text = "a", .enters = 32}}; }),
               "33 scopes"));
  REQUIRE(says(refusal([](options& o) {
                 o.scope_tokens = {{3, 1}, {40, 1}};
               }),
               "scope_tokens[1] is 40"));
  REQUIRE(says(refusal([](options& o) { o.scope_tokens = {{4, 99}}; }), "100 scopes"));
  REQUIRE(says(refusal([](options& o) { o.guidance = std::numeric_limits<float>::quiet_NaN(); }),
               "guidance"));
  // 160 positions: the last new token needs none.
  REQUIRE(refusal([](options& o) { o.max_new_tokens = 158; }) == "");
  REQUIRE(says(refusal([](options& o) { o.max_new_tokens = 159; }), "need 11 pages"));
  REQUIRE(says(refusal([](options& o) { o.prompt.resize(1000, 1); }), "need 69 pages"));
}

TEST_CASE("a job is refused that sets what the sampler's chain does not have") {
  using namespace tpx::sample;
  using any = tpx::any_sampler<tpx::sampler<TopK, Gumbel>, tpx::sampler<MinP, Gumbel>>;
  hash_model<16> model{10, vocab};
  letters const names{vocab};
  any sampler{{"MinP", "Gumbel"}, {.columns = vocab}};
  tpx::generator<hash_model<16>, any, letters> gen{model, sampler, names};
  using job_t = tpx::job_options<any::parameters>;
  job_t job{.prompt = {1, 2}, .max_new_tokens = 4, .sampling = {TopK{5}}};
  try {
    static_cast<void>(gen.enqueue(job));
    FAIL("the job was not refused");
  } catch (tpx::error const& e) {
    REQUIRE(e.code() == tpx::errc::invalid_argument);
    REQUIRE(says(e.what(), "TopK is set, but the chain is MinP Gumbel"));
  }
  REQUIRE(!gen.step());
  job.sampling = {MinP{0.1f}};
  REQUIRE(gen.enqueue(job).id() == 1);  // nothing had changed
  gen.drain();
  REQUIRE(gen.metrics().finished_jobs == 1);
}

TEST_CASE("a job that needs the whole cache runs") {
  bench<> b{10};
  options const whole{.prompt = {1, 2, 3}, .max_new_tokens = 158, .max_rq_tokens = 50};
  auto const first = b.gen.enqueue(whole);
  auto const second = b.gen.enqueue(whole);
  b.gen.drain();
  REQUIRE(first.wait(no_time)[0].tokens == expected(whole, vocab));
  REQUIRE(second.wait(no_time)[0].tokens == expected(whole, vocab));
  REQUIRE(b.used() == 0);
}

TEST_CASE("when the model throws, the jobs of that step fail with its error and no others") {
  bench<> b{40, {.max_batch = 3}};
  auto jobs = some_jobs(8, vocab, 60);
  for (auto& job : jobs) { job.max_new_tokens = 20; }
  std::vector<tpx::job> handles;
  for (auto const& job : jobs) { handles.push_back(b.gen.enqueue(job)); }
  b.model.fails_at = 10;
  while (b.gen.step()) { b.gen.pages().validate(); }
  std::size_t failed = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto const all = handles[i].wait(no_time)[0];
    if (all.reason == finish_reason::failed) {
      ++failed;
      REQUIRE(says(all.error, "the device fell over"));
    } else {
      REQUIRE(all.tokens == expected(jobs[i], vocab));
    }
  }
  REQUIRE(failed == 3);
  REQUIRE(b.used() == 0);
  REQUIRE(b.gen.metrics().failed_jobs == 3);
}

TEST_CASE("a copy that fails is done again before pages are read") {
  bench<> b{40, {.max_batch = 2}};
  options job{.prompt = some_tokens(60, vocab, 1), .max_new_tokens = 5};
  auto const first = b.gen.enqueue(job);
  b.gen.drain();
  b.model.copies_fail = true;
  job.prompt = some_tokens(57, vocab, 1);
  job.prompt.push_back(3);
  auto const second = b.gen.enqueue(job);
  b.gen.step();
  REQUIRE(second.wait(no_time)[0].reason == finish_reason::failed);
  REQUIRE(says(second.wait(no_time)[0].error, "the copy engine fell over"));
  b.model.copies_fail = false;
  auto const third = b.gen.enqueue(job);
  b.gen.drain();
  REQUIRE(third.wait(no_time)[0].tokens == expected(job, vocab));
  REQUIRE(b.used() == 0);
}

TEST_CASE("a logit that is NaN fails the job and names it") {
  bench<> b{40};
  auto jobs = some_jobs(6, vocab, 60);
  for (auto& job : jobs) { job.prompt.back() = 3; }
  jobs[4].prompt.back() = 9;
  b.model.nan_after = 9;
  for (auto& job : jobs) { job.max_new_tokens = 1; }
  std::vector<tpx::job> handles;
  for (auto const& job : jobs) { handles.push_back(b.gen.enqueue(job)); }
  b.gen.drain();
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto const all = handles[i].wait(no_time)[0];
    REQUIRE((all.reason == finish_reason::failed) == (i == 4));
    if (i == 4) { REQUIRE(says(all.error, "job 5: ")); }
  }
  REQUIRE(b.used() == 0);
}

TEST_CASE("a filter that allows nothing fails its job") {
  bench<> b{40};
  options job{.prompt = {1}, .max_new_tokens = 8};
  auto const good = b.gen.enqueue(job);
  using sets = std::vector<std::vector<token_id>>;
  job.filter = tpx::allowed_tokens::at_positions(vocab, sets{{1, 2}, {}, {3}});
  auto const bad = b.gen.enqueue(job);
  job.filter = tpx::allowed_tokens::at_positions(vocab, sets{{5}});
  job.stop_tokens = {5};
  job.min_new_tokens = 4;
  auto const worse = b.gen.enqueue(job);
  b.gen.drain();
  REQUIRE(good.wait(no_time)[0].reason == finish_reason::max_new_tokens);
  REQUIRE(bad.wait(no_time)[0].reason == finish_reason::failed);
  REQUIRE(says(bad.wait(no_time)[0].error, "after 1 new tokens"));
  REQUIRE(says(worse.wait(no_time)[0].error, "allow none"));
  REQUIRE(b.used() == 0);
}

TEST_CASE("a job is cancelled wherever it is, and nothing comes after") {
  bench<> b{40, {.max_batch = 2}};
  options job{.prompt = {1, 2}, .max_new_tokens = 50};
  auto const running = b.gen.enqueue(job);
  job.sequences = 5;
  auto const several = b.gen.enqueue(job);
  auto const waiting = b.gen.enqueue(job);
  for (int i = 0; i < 3; ++i) { b.gen.step(); }
  running.cancel();
  waiting.cancel();
  b.gen.step();
  REQUIRE(running.wait(no_time)[0].reason == finish_reason::cancelled);
  REQUIRE(running.wait(no_time)[0].tokens.size() == 3);
  for (auto const& g : waiting.wait(no_time)) { REQUIRE(g.reason == finish_reason::cancelled); }
  REQUIRE(!several.done());
  several.cancel();
  b.gen.drain();
  for (auto const& g : several.wait(no_time)) { REQUIRE(g.reason == finish_reason::cancelled); }
  REQUIRE(b.used() == 0);
  several.cancel();
  REQUIRE(!b.gen.step());
}

TEST_CASE("jobs of a generator that goes away are cancelled") {
  std::vector<tpx::job> handles;
  {
    bench<> b{40, {.max_batch = 2}};
    for (int i = 0; i < 4; ++i) { handles.push_back(b.gen.enqueue({.prompt = {1}})); }
    b.gen.step();
    handles.push_back(b.gen.enqueue({.prompt = {1}}));
  }
  for (auto const& h : handles) {
    REQUIRE(h.wait(no_time)[0].reason == finish_reason::cancelled);
    h.cancel();
  }
}

TEST_CASE("a callback gets all of a job as it comes; what it throws ends its job") {
  bench<> b{40};
  options const job{.prompt = {1, 2}, .max_new_tokens = 12};
  std::string text;
  std::vector<token_id> tokens;
  int ends = 0;
  auto const heard = b.gen.enqueue(job, [&](tpx::fresh_output const& news) {
    text += news.text;
    tokens.insert(tokens.end(), news.tokens.begin(), news.tokens.end());
    ends += news.reason == finish_reason::max_new_tokens ? 1 : 0;
  });
  auto const thrown = b.gen.enqueue(job, [](tpx::fresh_output const& news) {
    if (news.tokens.size() != 12) { throw std::runtime_error{"the user went away"}; }
  });
  auto const odd = b.gen.enqueue(job, [](tpx::fresh_output const&) { throw 7; });
  b.gen.drain();
  REQUIRE(odd.wait(no_time)[0].reason == finish_reason::failed);
  REQUIRE(tokens == expected(job, vocab));
  REQUIRE(text == heard.wait(no_time)[0].text);
  REQUIRE(ends == 1);
  REQUIRE(thrown.wait(no_time)[0].reason == finish_reason::failed);
  REQUIRE(says(thrown.wait(no_time)[0].error, "the user went away"));
  REQUIRE(b.used() == 0);
}

TEST_CASE("the higher priority goes first, and takes the pages of a lower one") {
  bench<> b{10};
  options low{.prompt = some_tokens(40, vocab, 1), .max_new_tokens = 100, .max_rq_tokens = 100};
  options high{.prompt = some_tokens(70, vocab, 2), .max_new_tokens = 20};
  high.priority = 1;
  auto const first = b.gen.enqueue(low);
  for (int i = 0; i < 10; ++i) { b.gen.step(); }
  auto const second = b.gen.enqueue(high);
  low.priority = 1;
  low.seed = 4;
  auto const third = b.gen.enqueue(low);  // as important as the second, so it waits
  while (!second.done()) {
    b.gen.step();
    b.gen.pages().validate();
    REQUIRE(b.gen.running() + (second.done() ? 1 : 0) == 1);
  }
  REQUIRE(!third.done());
  while (!third.done()) { b.gen.step(); }
  REQUIRE(!first.done());
  b.gen.drain();
  auto const all = first.wait(no_time)[0];
  REQUIRE(all.tokens == expected(low, vocab));
  REQUIRE(all.metrics.preemptions == 1);
  REQUIRE(second.wait(no_time)[0].tokens == expected(high, vocab));
}

TEST_CASE("any thread may enqueue, cancel and read while another one serves") {
  bench<> b{60, {.max_batch = 6}};
  std::jthread const server{[&](std::stop_token stop) { b.gen.serve(stop); }};
  std::vector<std::jthread> users;
  std::vector<std::string> wrong(4);
  for (std::size_t u = 0; u < wrong.size(); ++u) {
    users.emplace_back([&, u] {
      for (std::size_t i = 0; i < (sanitized ? 10 : 40); ++i) {
        options job{.prompt = some_tokens(1 + (7 * i + u) % 50, vocab, i), .max_new_tokens = 30};
        job.priority = static_cast<int>(u % 2);
        auto const handle = b.gen.enqueue(job);
        if (i % 5 == 4) {
          handle.cancel();
          continue;
        }
        std::vector<token_id> tokens;
        while (auto const news = handle.next(std::chrono::seconds{60})) {
          tokens.insert(tokens.end(), news->tokens.begin(), news->tokens.end());
        }
        if (tokens != expected(job, vocab)) { wrong[u] = "job " + std::to_string(i); }
      }
    });
  }
  users.clear();
  for (auto const& w : wrong) { REQUIRE(w == ""); }
}

}  // namespace
