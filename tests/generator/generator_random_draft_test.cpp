// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Drafts drawn by chance in a generator: the texts' distribution is the target's.
#include "fake_models.hpp"

#include <tpx/generator/generator.hpp>
#include <tpx/generator/model_draft.hpp>
#include <tpx/generator/sampler.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

namespace {

using namespace tpx::sample;
using tpx::token_id;

constexpr std::size_t vocab = 4;
constexpr std::size_t length = 4;  // tokens of a text
constexpr std::size_t texts = 256;

/// Four tokens whose logits depend on the token before, differently for each `Kind`.
template <int Kind>
class pair_model : public fake::paged<16> {
 public:
  explicit pair_model(std::size_t pages) : paged{pages, vocab} {}

  static float logit(token_id before, token_id token) {
    return static_cast<float>((before * 7 + token * (Kind + 2)) % 5) / (Kind == 0 ? 2.0f : 3.0f);
  }
  std::span<float> forward(std::span<tpx::step_part const> parts) {
    auto const logits = begin(parts);
    auto row = logits;
    for (auto const& part : parts) {
      for (auto const before : part.tokens.last(part.rows)) {
        for (token_id t = 0; t < static_cast<token_id>(vocab); ++t) {
          row[static_cast<std::size_t>(t)] = logit(before, t);
        }
        row = row.subspan(vocab);
      }
    }
    return logits;
  }
};
using target_model = pair_model<0>;
using chain = tpx::sampler<TopK, Temperature, Gumbel>;

/// The probability of each text after token 1, under temperature 0.8 and the `kept` likeliest, or
/// without token 0.
std::vector<double> expected(std::size_t kept, bool banned = false) {
  std::vector<double> p(texts, 1);
  for (std::size_t text = 0; text < texts; ++text) {
    token_id before = 1;
    for (std::size_t shift = 2 * length; shift > 0;) {
      shift -= 2;
      auto const token = static_cast<token_id>(text >> shift & 3);
      auto const mine = static_cast<double>(target_model::logit(before, token));
      double sum = 0;
      std::size_t above = 0;
      for (token_id other = 0; other < static_cast<token_id>(vocab); ++other) {
        auto const its = static_cast<double>(target_model::logit(before, other));
        std::size_t better = 0;
        for (token_id t = 0; t < static_cast<token_id>(vocab); ++t) {
          better += static_cast<double>(target_model::logit(before, t)) > its ? 1 : 0;
        }
        if (better < kept && (other > 0 || !banned)) { sum += std::exp(its / 0.8); }
        above += its > mine ? 1 : 0;
      }
      p[text] *= above < kept && (token > 0 || !banned) ? std::exp(mine / 0.8) / sum : 0;
      before = token;
    }
  }
  return p;
}

struct outcome {
  std::vector<double> counts = std::vector<double>(texts);
  double accepted = 0;
  double rejected = 0;
};

template <class Drafter>
outcome run(Drafter& drafter, std::size_t kept, std::size_t jobs, tpx::generator_options const& how,
            std::vector<std::string> const& banned = {}) {
  target_model model{100};
  fake::letters const names{vocab};
  chain sampler{{.columns = vocab}};
  tpx::generator<target_model, chain, fake::letters, Drafter> gen{model, sampler, names, drafter,
                                                                  how};
  outcome found;
  std::vector<tpx::job> handles;
  for (std::size_t i = 0; i < jobs; ++i) {
    handles.push_back(gen.enqueue({.prompt = {1},
                                   .max_new_tokens = static_cast<int>(length),
                                   .sampling = {TopK{static_cast<int>(kept)}, Temperature{0.8f}},
                                   .seed = i,
                                   .banned_strings = banned,
                                   .max_draft = 3,
                                   .max_rq_tokens = 1 + static_cast<int>(i % 5)}));
  }
  gen.drain();
  for (auto& job : handles) {
    auto const all = job.wait(std::chrono::milliseconds{0});
    auto const& g = all.front();
    std::size_t text = 0;
    for (auto const token : g.tokens) { text = text * 4 + static_cast<std::size_t>(token); }
    found.counts[text] += 1;
    found.accepted += static_cast<double>(g.metrics.accepted_drafts);
    found.rejected += static_cast<double>(g.metrics.rejected_drafts);
  }
  return found;
}

/// Chi-square below its mean + 5 standard deviations.
bool fits(outcome const& found, std::vector<double> const& p, std::size_t jobs) {
  double chi = 0;
  double freedom = -1;
  double rest = 0;
  double rest_mean = 0;
  for (std::size_t text = 0; text < texts; ++text) {
    auto const mean = p[text] * static_cast<double>(jobs);
    if (mean == 0 && found.counts[text] > 0) { return false; }
    if (mean < 5) {
      rest += found.counts[text];
      rest_mean += mean;
    } else {
      chi += (found.counts[text] - mean) * (found.counts[text] - mean) / mean;
      freedom += 1;
    }
  }
  if (rest_mean > 0) {
    chi += (rest - rest_mean) * (rest - rest_mean) / rest_mean;
    freedom += 1;
  }
  return chi <= freedom + 5 * std::sqrt(2 * freedom);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::size_t jobs = 2'000;
#else
constexpr std::size_t jobs = 10'000;
#endif

/// A drafter that says something else of its draft's chances.
template <class Drafter, class Say>
struct saying : Drafter {
  saying(Drafter&& drafter, Say told) : Drafter{std::move(drafter)}, say{std::move(told)} {}
  [[nodiscard]] tpx::token_distribution drawn_from(std::uint32_t, std::size_t) const { return say; }
  Say say;
};

constexpr tpx::generator_options wide{.max_batch = 32};
constexpr tpx::generator_options narrow{.max_batch = 8, .token_budget = 12};  // drafts cut short
constexpr tpx::model_draft_options most{.slots = 32, .most = 3};

}  // namespace

TEST_CASE("texts are distributed as without drafts when a draft model draws by chance") {
  pair_model<1> draft{100};
  for (std::size_t const kept : {4u, 2u}) {
    auto const p = expected(kept);
    tpx::model_draft drafter{draft, most, tpx::random_choice<4>{}};
    CHECK(fits(run(drafter, kept, jobs, wide), p, jobs));
    CHECK(fits(run(drafter, kept, jobs, narrow), p, jobs));
    tpx::model_draft two{draft, most, tpx::random_choice<2>{0.7f}};
    CHECK(fits(run(two, kept, jobs, wide), p, jobs));
    tpx::model_draft greedy{draft, most};
    CHECK(fits(run(greedy, kept, jobs, wide), p, jobs));
  }
}

TEST_CASE("random drafts are accepted more often than by chance alone") {
  target_model draft{100};  // the target itself, but for the temperature
  tpx::model_draft drafter{draft, most, tpx::random_choice<4>{0.8f}};
  auto const found = run(drafter, 4, jobs, wide);
  CHECK(found.rejected == 0);
  CHECK(found.accepted > static_cast<double>(jobs) / 2);
  CHECK(fits(found, expected(4), jobs));
  // Without its distribution a draft is accepted where the sampler happens to pick the same.
  saying silent{tpx::model_draft{draft, most, tpx::random_choice<4>{0.8f}},
                std::vector<tpx::candidate>{}};
  auto const by_equality = run(silent, 4, jobs, wide);
  CHECK(by_equality.rejected > by_equality.accepted);
  CHECK(fits(by_equality, expected(4), jobs));
}

TEST_CASE("texts that go back from a ban are distributed as what is left") {
  pair_model<1> draft{100};
  tpx::model_draft drafter{draft, most, tpx::random_choice<4>{}};
  CHECK(fits(run(drafter, 4, jobs, wide, {"a"}), expected(4, true), jobs));
}

TEST_CASE("a drafter that tells another distribution than it drew from changes the texts") {
  pair_model<1> draft{100};
  saying wrong{tpx::model_draft{draft, most, tpx::random_choice<4>{}},
               std::vector<tpx::candidate>{{0, 1}, {1, 1}, {2, 1}, {3, 1}}};
  CHECK_FALSE(fits(run(wrong, 4, jobs, wide), expected(4), jobs));
}
