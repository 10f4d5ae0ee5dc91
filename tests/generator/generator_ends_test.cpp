// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How texts end, and what they must not hold.
#include "foresight.hpp"
#include "world.hpp"

#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/sampler.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <set>
#include <string>

namespace {

using namespace fake;

template <class Model>
std::vector<generated> run(Model& model, std::vector<options> jobs, letters const& names,
                           tpx::generator_options const& how = {}) {
  noisy sampler;
  generator<Model> gen{model, sampler, names, how};
  std::vector<tpx::job> handles;
  for (auto& job : jobs) { handles.push_back(gen.enqueue(std::move(job))); }
  while (gen.step()) { gen.pages().validate(); }
  std::vector<generated> all;
  for (auto const& h : handles) {
    for (auto& g : h.wait(no_time)) { all.push_back(std::move(g)); }
  }
  return all;
}

/// On a model that says the alphabet.
generated run(options job) {
  counting_model<16> model{20, 26};
  return run(model, {std::move(job)}, letters{26}).front();
}

TEST_CASE("there are exactly max_new_tokens tokens, with and without drafts") {
  constexpr std::size_t vocab = 40;
  hash_model<16> model{100, vocab};
  letters const names{vocab};
  noisy sampler;
  foresight drafter{vocab, 5};
  generator<hash_model<16>, foresight> gen{model, sampler, names, drafter};
  std::vector<options> jobs;
  std::vector<tpx::job> handles;
  for (int n = 1; n < 40; ++n) {
    for (int draft : {0, 1, 3, 8}) {
      jobs.push_back({.prompt = some_tokens(static_cast<std::size_t>(n), vocab, 3)});
      jobs.back().max_new_tokens = n;
      jobs.back().max_draft = draft;
      handles.push_back(gen.enqueue(jobs.back()));
    }
  }
  gen.drain();
  std::uint64_t accepted = 0;
  std::uint64_t rejected = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto const all = handles[i].wait(no_time).front();
    REQUIRE(all.reason == finish_reason::max_new_tokens);
    REQUIRE(all.tokens == expected(jobs[i], vocab));
    REQUIRE(all.metrics.new_tokens == all.tokens.size());
    accepted += all.metrics.accepted_drafts;
    rejected += all.metrics.rejected_drafts;
  }
  REQUIRE(accepted > 500);
  REQUIRE(rejected > 50);
}

TEST_CASE("a stop token ends the text and is the last of the tokens") {
  auto const all = run({.prompt = {0}, .stop_tokens = {20, 5}});
  REQUIRE(all.reason == finish_reason::stop_token);
  REQUIRE(all.text == "bcde");
  REQUIRE(all.tokens == std::vector<token_id>{1, 2, 3, 4, 5});
}

TEST_CASE("no stop token comes before min_new_tokens") {
  constexpr std::size_t vocab = 26;
  hash_model<16> model{20, vocab};
  options job{.prompt = {7}, .max_new_tokens = 100, .min_new_tokens = 30};
  for (token_id t = 0; t < 13; ++t) { job.stop_tokens.push_back(t); }
  auto const all = run(model, {job}, letters{vocab}).front();
  REQUIRE(all.reason == finish_reason::stop_token);
  REQUIRE(all.tokens.size() > 30);
  REQUIRE(std::all_of(all.tokens.begin(), all.tokens.end() - 1, [](token_id t) { return t > 12; }));
}

TEST_CASE("a text ends before a stop string, and what only began like one is sent") {
  auto const stopped = run({.prompt = {0}, .stop_strings = {"fgx", "fgh"}});
  REQUIRE(stopped.reason == finish_reason::stop_string);
  REQUIRE(stopped.text == "bcde");
  auto const whole = run({.prompt = {0}, .max_new_tokens = 7, .stop_strings = {"fgx", "hij"}});
  REQUIRE(whole.reason == finish_reason::max_new_tokens);
  REQUIRE(whole.text == "bcdefgh");
  REQUIRE(whole.tokens.size() == 7);
}

TEST_CASE("stop and banned strings may count in a scope of the text alone") {
  using tpx::text_action;
  options job{.prompt = {0}, .max_new_tokens = 60};
  // The alphabet over and over: "hij" stops from the first "xyz" on.
  job.text_patterns = {{.text = "hij", .scopes = 0b10},
                       {.text = "xyz", .action = text_action::Enter, .enters = 1}};
  auto const by_pattern = run(job);
  REQUIRE(by_pattern.reason == finish_reason::stop_string);
  REQUIRE(by_pattern.text == "bcdefghijklmnopqrstuvwxyzabcdefg");
  // From token "k" on it is scope 2, where "l" may not be; then the model only says "a".
  job.text_patterns = {{.text = "cd", .action = text_action::Ban, .scopes = 0b10},
                       {.text = "lm", .action = text_action::Ban, .scopes = 0b100}};
  job.scope_tokens = {{10, 2}};
  auto const by_token = run(job);
  REQUIRE(by_token.reason == finish_reason::max_new_tokens);
  REQUIRE(by_token.text.starts_with("bcdefghijka"));
  REQUIRE(by_token.tokens.size() == 60);
}

TEST_CASE("a text that goes in circles ends") {
  counting_model<16> model{20, 4};
  tpx::loop_options const loops{.max_period = 8, .repeats = 5, .min_tokens = 0};
  auto const all =
    run(model, {{.prompt = {0}, .max_new_tokens = 200, .stop_on_loop = loops}}, letters{4}).front();
  REQUIRE(all.reason == finish_reason::loop);
  REQUIRE(all.tokens.size() == 20);
}

/// The text of a greedy hash model that goes back where a banned string was completed: to the token
/// with which it began, which is then not to be chosen there; but not beyond what has been sent,
/// which is all that was at some time no part of a possible banned string.
std::vector<token_id> without(std::vector<std::string> const& banned, options const& job,
                              letters const& names) {
  auto all = job.prompt;
  std::vector<std::set<token_id>> forbidden(1000);
  std::vector<float> row(names.size());
  auto const end = job.prompt.size() + static_cast<std::size_t>(job.max_new_tokens);
  std::size_t sent = job.prompt.size();
  while (all.size() < end) {
    write_logits(row, hash_of(all));
    for (token_id const t : forbidden[all.size()]) { row[static_cast<std::size_t>(t)] = -1; }
    all.push_back(static_cast<token_id>(std::max_element(row.begin(), row.end()) - row.begin()));
    std::string text;
    std::vector<std::size_t> token_of;  // by byte of the text
    for (std::size_t i = job.prompt.size(); i < all.size(); ++i) {
      text += names.piece(all[i]);
      token_of.resize(text.size(), i);
    }
    std::size_t longest = 0;
    for (auto const& b : banned) {
      if (text.ends_with(b)) { longest = std::max(longest, b.size()); }
    }
    if (longest == 0) {
      std::size_t held = 0;
      for (auto const& b : banned) {
        for (std::size_t n = 1; n < b.size(); ++n) {
          if (text.ends_with(b.substr(0, n))) { held = std::max(held, n); }
        }
      }
      sent = std::max(sent, held == 0 ? all.size() : token_of[text.size() - held]);
      continue;
    }
    auto const first = std::max(sent, token_of[text.size() - longest]);
    forbidden[first].insert(all[first]);
    for (auto later = first + 1; later < forbidden.size(); ++later) { forbidden[later].clear(); }
    all.resize(first);
  }
  return {all.begin() + static_cast<std::ptrdiff_t>(job.prompt.size()), all.end()};
}

TEST_CASE("a banned string is never in the text, and the rest is as if it had not been tried") {
  constexpr std::size_t vocab = 6;
  letters const names{vocab};
  std::vector<std::string> const banned = {"ab", "cde", "ff", "ea"};
  for (std::size_t const drafts : {std::size_t{0}, std::size_t{4}}) {
    hash_model<16> model{400, vocab};
    noisy sampler;
    foresight drafter{vocab, 4};
    generator<hash_model<16>, foresight> gen{model, sampler, names, drafter};
    std::vector<options> jobs = some_jobs(24, vocab, 40);
    std::vector<tpx::job> handles;
    for (auto& job : jobs) {
      job.sampling.heat = 0;
      job.banned_strings = banned;
      job.max_draft = static_cast<int>(drafts);
      job.max_rq_tokens = 6;
      handles.push_back(gen.enqueue(job));
    }
    while (gen.step()) { gen.pages().validate(); }
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      auto const all = handles[i].wait(no_time).front();
      REQUIRE(all.error == "");
      CAPTURE(i, drafts, all.text, jobs[i].prompt.size());
      REQUIRE(all.tokens == without(banned, jobs[i], names));
      for (auto const& b : banned) { REQUIRE(all.text.find(b) == std::string::npos); }
    }
  }
}

TEST_CASE("a filter's mask is what may come, and its end is the text's") {
  constexpr std::size_t vocab = 26;
  hash_model<16> model{60, vocab};
  letters const names{vocab};
  using sets = std::vector<std::vector<token_id>>;
  options job{.prompt = {3}};
  job.filter = tpx::allowed_tokens::at_positions(vocab, sets{{1, 2}, {4}, {5, 6, 7}});
  job.sequences = 5;
  job.sampling.heat = 9;
  options open{.prompt = {3}, .max_new_tokens = 9};
  open.filter = tpx::allowed_tokens{vocab, std::vector<token_id>{2, 3}};
  auto const all = run(model, {std::move(job), std::move(open)}, names);
  REQUIRE(all.size() == 6);
  std::set<std::vector<token_id>> different;
  for (std::size_t i = 0; i < 5; ++i) {
    REQUIRE(all[i].reason == finish_reason::filter_finished);
    REQUIRE(all[i].tokens.size() == 3);
    REQUIRE((all[i].tokens[0] == 1 || all[i].tokens[0] == 2));
    REQUIRE(all[i].tokens[1] == 4);
    different.insert(all[i].tokens);
  }
  REQUIRE(different.size() > 1);
  REQUIRE(all[5].reason == finish_reason::max_new_tokens);
  REQUIRE(std::all_of(all[5].tokens.begin(), all[5].tokens.end(),
                      [](token_id t) { return t == 2 || t == 3; }));
}

TEST_CASE("a healed prompt's text goes on where the prompt ended") {
  constexpr std::size_t vocab = 700;  // "a" to "z", "ba" to "zz", "baa" to "bax"
  hash_model<16> model{20, vocab};
  letters const names{vocab};
  std::vector<options> jobs;
  for (token_id last = 0; last < 26; ++last) {
    jobs.push_back({.prompt = {30, last}, .max_new_tokens = 4});
    jobs.back().heal_tokens = true;
  }
  std::size_t longer = 0;
  auto const all = run(model, jobs, names);
  for (std::size_t i = 0; i < all.size(); ++i) {
    REQUIRE(all[i].error == "");
    std::string text;
    for (token_id const t : all[i].tokens) { text += names.piece(t); }
    auto const before = names.piece(static_cast<token_id>(i));
    REQUIRE(text.starts_with(before));
    REQUIRE(text.substr(before.size()) == all[i].text);
    longer += names.piece(all[i].tokens[0]).size() > 1 ? 1 : 0;
  }
  REQUIRE(longer > 10);
}

TEST_CASE("scores and likeliest tokens are of the tokens that were sent") {
  constexpr std::size_t vocab = 5;
  hash_model<16> model{40, vocab};
  letters const names{vocab};
  options job{.prompt = {1, 2}, .max_new_tokens = 60, .banned_strings = {"ab", "dce"}};
  job.logprobs = true;
  auto const all = run(model, {job}, names).front();
  REQUIRE(all.scores.size() == 60);
  std::vector<token_id> tokens = job.prompt;
  std::vector<float> row(vocab);
  for (std::size_t i = 0; i < all.tokens.size(); ++i) {
    write_logits(row, hash_of(tokens));
    REQUIRE(all.scores[i].logprob == row[static_cast<std::size_t>(all.tokens[i])]);
    REQUIRE(all.scores[i].raw_logprob ==
            static_cast<float>(i + 1));  // the sampler's state went back
    tokens.push_back(all.tokens[i]);
  }
}

/// The `n` likeliest of the tokens that `allowed` says, by double-precision sums.
template <class F>
std::vector<std::pair<token_id, double>> likeliest(std::vector<float> const& row, std::size_t n,
                                                   F allowed) {
  std::vector<std::pair<token_id, double>> all;
  double sum = 0;
  for (std::size_t t = 0; t < row.size(); ++t) {
    if (!allowed(static_cast<token_id>(t))) { continue; }
    all.emplace_back(static_cast<token_id>(t), static_cast<double>(row[t]));
    sum += std::exp(all.back().second);
  }
  std::ranges::sort(all, [](auto const& a, auto const& b) { return a.second > b.second; });
  all.resize(std::min(n, all.size()));
  for (auto& [token, logit] : all) { logit -= std::log(sum); }
  return all;
}

TEST_CASE("the likeliest tokens are told as the model has them and as they were drawn from") {
  using namespace tpx::sample;
  using chain = tpx::sampler<TopK, Argmax>;
  constexpr std::size_t vocab = 7;
  hash_model<16> model{40, vocab};
  letters const names{vocab};
  chain sampler{{.columns = vocab}};
  tpx::generator<hash_model<16>, chain, letters> gen{model, sampler, names};
  tpx::job_options<chain::parameters> job{
    .prompt = {1, 2}, .max_new_tokens = 50, .sampling = {TopK{3}}, .banned_strings = {"ab", "dce"}};
  job.top_logprobs = 4;
  job.raw_top_logprobs = 5;
  job.filter = tpx::allowed_tokens{vocab, std::vector<token_id>{0, 1, 2, 3, 4, 6}};
  auto const handle = gen.enqueue(job);
  gen.drain();
  std::vector<tpx::token_logprob> streamed;
  while (auto const piece = handle.next(no_time)) {
    streamed.insert(streamed.end(), piece->raw_top.begin(), piece->raw_top.end());
  }
  auto const all = handle.wait(no_time).front();
  REQUIRE(all.error == "");
  REQUIRE(all.tokens.size() == 50);
  REQUIRE(all.raw_top == streamed);
  REQUIRE(all.raw_top.size() == 5 * 50);
  REQUIRE(all.top.size() == 4 * 50);
  REQUIRE(all.scores.empty());
  std::vector<token_id> tokens = job.prompt;
  std::vector<float> row(vocab);
  std::size_t outside = 0;  // the filter, and yet told
  for (std::size_t i = 0; i < all.tokens.size(); ++i) {
    write_logits(row, hash_of(tokens));
    auto const raw = likeliest(row, 5, [](token_id) { return true; });
    for (std::size_t k = 0; k < 5; ++k) {
      auto const& got = all.raw_top[5 * i + k];
      REQUIRE(got.token == raw[k].first);
      REQUIRE(std::abs(static_cast<double>(got.logprob) - raw[k].second) < 1e-4);
      outside += got.token == 5 ? 1 : 0;
    }
    REQUIRE(all.top[4 * i].token == all.tokens[i]);
    REQUIRE(all.top[4 * i + 2].token >= 0);
    REQUIRE(all.top[4 * i + 3].token == -1);  // three were possible
    tokens.push_back(all.tokens[i]);
  }
  REQUIRE(outside > 10);
}

}  // namespace
