// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/generator/counter_rng.hpp>
#include <tpx/generator/model_draft.hpp>
#include <tpx/generator/rejection.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

namespace {

using tpx::candidate;
using tpx::token_id;
using candidates = std::vector<candidate>;

// Whether counts are what `expected` says: chi-square below its mean + 5 standard deviations, which
// a right sampler exceeds once in ~10^5 (and the seeds are fixed).
bool fits(std::map<token_id, double> const& counts, candidates const& expected, double draws) {
  double sum = 0;
  for (auto const& c : expected) { sum += static_cast<double>(c.weight); }
  double chi = 0;
  double freedom = -1;
  double seen = 0;
  for (auto const& c : expected) {
    auto const found = counts.contains(c.token) ? counts.at(c.token) : 0;
    seen += found;
    auto const mean = draws * static_cast<double>(c.weight) / sum;
    if (mean == 0 && found > 0) { return false; }
    if (mean > 0) {
      chi += (found - mean) * (found - mean) / mean;
      freedom += 1;
    }
  }
  return seen == draws && chi <= freedom + 5 * std::sqrt(2 * freedom) + 1e-9;
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t draws = 20'000;
#else
constexpr std::uint64_t draws = 200'000;
#endif

}  // namespace

TEST_CASE("philox gives the numbers of its authors' test vectors", "[rejection]") {
  using tpx::philox;
  using tpx::random_block;
  // Random123, kat_vectors, "philox4x32 10".
  CHECK(philox({{0, 0, 0, 0}}, 0) ==
        random_block{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  CHECK(philox({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffffffffffff) ==
        random_block{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  CHECK(philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822) ==
        random_block{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("a uniform number is never 0 or 1", "[rejection]") {
  STATIC_REQUIRE(tpx::uniform({{0, 0, 0, 0}}) > 0);
  STATIC_REQUIRE(tpx::uniform({{0xffffffff, 0xffffffff, 0, 0}}) < 1);
  double sum = 0;
  double squares = 0;
  for (std::uint64_t step = 0; step < draws; ++step) {
    auto const u = tpx::uniform(tpx::random_at(7, step, 0));
    sum += u;
    squares += u * u;
  }
  auto const n = static_cast<double>(draws);
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1 / 12.0 / n));
  CHECK(std::abs(squares / n - 1 / 3.0) < 5 * std::sqrt(4 / 45.0 / n));
}

TEST_CASE("random numbers differ in each of seed, step, token and use", "[rejection]") {
  auto const one = tpx::random_at(1, 2, 3, tpx::random_use::draft);
  CHECK_FALSE(one == tpx::random_at(4, 2, 3, tpx::random_use::draft));
  CHECK_FALSE(one == tpx::random_at(1, 4, 3, tpx::random_use::draft));
  CHECK_FALSE(one == tpx::random_at(1, 2 + (1ull << 32), 3, tpx::random_use::draft));
  CHECK_FALSE(one == tpx::random_at(1, 2, 4, tpx::random_use::draft));
  CHECK_FALSE(one == tpx::random_at(1, 2, 3, tpx::random_use::accept));
}

TEST_CASE("tokens come out as the target has them, whatever the draft was", "[rejection]") {
  candidates const target{{2, 5}, {3, 1}, {7, 2}, {100, 0}, {128000, 2}};
  candidates const drafts[]{
    {{2, 5}, {3, 1}, {7, 2}, {128000, 2}},  // the target itself
    {{2, 1}, {3, 1}, {7, 1}, {128000, 1}},  // flatter
    {{7, 0.01f}, {128000, 0.99f}},          // of two of its tokens
    {{1, 3}, {3, 1}, {50, 1}},              // hardly any in common
    {{5, 1}, {6, 1}},                       // none
    {{100, 1}},                             // one that the target never has
  };
  std::uint64_t seed = 0;
  for (auto const& draft : drafts) {
    ++seed;
    std::map<token_id, double> counts;
    double accepted = 0;
    bool other = false;
    for (std::uint64_t step = 0; step < draws; ++step) {
      auto const drafted = tpx::draw(draft, seed, step, tpx::random_use::draft);
      auto const [taken, token] = tpx::verify(target, drafted, draft, seed, step);
      other = other || (taken && token != drafted);
      accepted += taken ? 1 : 0;
      counts[token] += 1;
    }
    CHECK_FALSE(other);
    CHECK(fits(counts, target, static_cast<double>(draws)));
    // As often as any way to do it can: the sum of min(p, q) (Leviathan et al., theorem 3.5).
    double q_sum = 0;
    for (auto const& q : draft) { q_sum += static_cast<double>(q.weight); }
    double overlap = 0;
    for (auto const& p : target) {
      for (auto const& q : draft) {
        if (p.token == q.token) {
          overlap +=
            std::min(static_cast<double>(p.weight) / 10, static_cast<double>(q.weight) / q_sum);
        }
      }
    }
    auto const n = static_cast<double>(draws);
    CHECK(std::abs(accepted / n - overlap) <= 5 * std::sqrt(overlap * (1 - overlap) / n) + 1e-6);
  }
}

TEST_CASE("tokens come out as the target has them after a draft without chance", "[rejection]") {
  candidates const target{{0, 3}, {1, 1}, {4, 4}, {9, 2}};
  for (token_id const drafted : {0, 1, 4, 5, 9}) {
    std::map<token_id, double> counts;
    for (std::uint64_t step = 0; step < draws; ++step) {
      counts[tpx::verify(target, drafted, {}, 11, step).token] += 1;
    }
    CHECK(fits(counts, target, static_cast<double>(draws)));
  }
}

TEST_CASE("the wrong draft distribution shows in the tokens", "[rejection]") {
  // What the two tests above could not see if they saw nothing.
  candidates const target{{0, 1}, {1, 1}};
  candidates const believed{{0, 1}, {1, 1}};
  candidates const drawn_from{{0, 9}, {1, 1}};
  std::map<token_id, double> counts;
  for (std::uint64_t step = 0; step < draws; ++step) {
    auto const drafted = tpx::draw(drawn_from, 5, step, tpx::random_use::draft);
    counts[tpx::verify(target, drafted, believed, 5, step).token] += 1;
  }
  CHECK_FALSE(fits(counts, target, static_cast<double>(draws)));
}

TEST_CASE("a draft equal to the target is always accepted", "[rejection]") {
  std::mt19937 random{3};
  std::uniform_real_distribution<float> weight{0, 1};
  for (std::uint64_t step = 0; step < 2000; ++step) {
    candidates both;
    for (token_id token = 0; token < 50; ++token) { both.push_back({token, weight(random)}); }
    auto const drafted = tpx::draw(both, 1, step, tpx::random_use::draft);
    REQUIRE(tpx::verify(both, drafted, both, 1, step).accepted);
    // Weights need not sum up to one.
    auto scaled = both;
    for (auto& c : scaled) { c.weight *= 8; }
    REQUIRE(tpx::verify(scaled, drafted, both, 1, step).accepted);
  }
}

TEST_CASE("what is no distribution is refused", "[rejection]") {
  candidates const good{{1, 1}, {2, 1}};
  auto const nan = std::numeric_limits<float>::quiet_NaN();
  auto const infinite = std::numeric_limits<float>::infinity();
  for (candidates const& bad :
       {candidates{{2, 1}, {1, 1}}, candidates{{1, 1}, {1, 1}}, candidates{{1, -1}, {2, 3}},
        candidates{{1, nan}}, candidates{{1, 0}}, candidates{{1, infinite}}, candidates{{-1, 1}}}) {
    CHECK_THROWS_AS(tpx::verify(bad, 1, good, 0, 0), tpx::error);
    CHECK_THROWS_AS(tpx::verify(good, 1, bad, 0, 0), tpx::error);
    CHECK_THROWS_AS(tpx::draw(bad, 0, 0), tpx::error);
  }
  CHECK_THROWS_AS(tpx::verify({}, 1, good, 0, 0), tpx::error);
  CHECK_THROWS_AS(tpx::verify(good, 3, good, 0, 0), tpx::error);
}

namespace {

// Four tokens whose logits depend on the token before, differently for each `kind`.
struct pair_model {
  static constexpr std::size_t page_size = 16;
  static constexpr std::size_t vocab = 4;
  int kind;
  std::vector<float> logits = {};

  static float logit(int kind, token_id before, token_id token) {
    return static_cast<float>((before * 7 + token * (kind + 2)) % 5) / (kind == 0 ? 2.0f : 3.0f);
  }
  std::size_t vocab_size() const { return vocab; }
  std::size_t pages() const { return 1; }
  std::span<float> forward(std::span<tpx::step_part const> parts) {
    logits.clear();
    for (auto const& part : parts) {
      for (token_id token = 0; part.rows > 0 && token < 4; ++token) {
        logits.push_back(logit(kind, part.tokens.back(), token));
      }
    }
    return logits;
  }
  void copy(std::span<tpx::page_copy const>) {}
};

candidates target_after(token_id before) {
  candidates all;
  for (token_id token = 0; token < 4; ++token) {
    all.push_back({token, std::exp(pair_model::logit(0, before, token))});
  }
  return all;
}

// The first three tokens that a generator would give: a draft, its verification, a token more.
template <class Choice>
token_id three_tokens(tpx::model_draft<pair_model, Choice>& drafter, std::uint64_t seed) {
  tpx::page_id const page = 0;
  std::vector<token_id> text{1};
  drafter.open(0, 0);
  while (text.size() < 4) {
    tpx::draft_request const request{0, 2, text, {&page, 1}, seed};
    drafter.propose({&request, 1});
    bool accepted = true;
    for (std::size_t i = 0; accepted && i < drafter.tokens(0).size(); ++i) {
      auto const v = tpx::verify(target_after(text.back()), drafter.tokens(0)[i],
                                 drafter.drawn_from(0, i), seed, text.size());
      text.push_back(v.token);
      accepted = v.accepted;
    }
    if (accepted) { text.push_back(tpx::draw(target_after(text.back()), seed, text.size())); }
  }
  return text[1] * 16 + text[2] * 4 + text[3];
}

template <class Choice>
void drafts_leave_the_distribution(Choice choice) {
  pair_model model{.kind = 1};
  tpx::model_draft<pair_model, Choice> drafter{model, {.slots = 1, .most = 2}, choice};
  std::map<token_id, double> counts;
  auto const n = draws / 2;
  for (std::uint64_t seed = 0; seed < n; ++seed) { counts[three_tokens(drafter, seed)] += 1; }
  candidates expected;
  for (token_id all = 0; all < 64; ++all) {
    double probability = 1;
    token_id before = 1;
    for (int const shift : {4, 2, 0}) {
      token_id const token = all >> shift & 3;
      auto const target = target_after(before);
      double sum = 0;
      for (auto const& c : target) { sum += static_cast<double>(c.weight); }
      probability *= static_cast<double>(target[static_cast<std::size_t>(token)].weight) / sum;
      before = token;
    }
    expected.push_back({all, static_cast<float>(probability)});
  }
  CHECK(fits(counts, expected, static_cast<double>(n)));
}

}  // namespace

TEST_CASE("whole texts come out as the target has them with a model's random drafts",
          "[rejection]") {
  drafts_leave_the_distribution(tpx::random_choice<4>{});
  drafts_leave_the_distribution(tpx::random_choice<2>{0.7f});
}

TEST_CASE("whole texts come out as the target has them with a model's greedy drafts",
          "[rejection]") {
  drafts_leave_the_distribution(tpx::greedy_choice{});
}
