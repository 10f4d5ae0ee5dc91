// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tokens that a drafter drew by chance, as the sampler takes or replaces them.
#include "../world.hpp"
#include "sampler_oracle.hpp"

#include <tpx/allreduce.hpp>
#include <tpx/generator/rejection.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <optional>

namespace {

using namespace oracle;
using draft = std::vector<candidate>;

constexpr std::size_t width = 300;

/// Logits such that some tokens are likely, and one far from all others is.
std::vector<float> some_logits() {
  std::vector<float> values(width);
  for (std::size_t t = 0; t < width; ++t) {
    values[t] = static_cast<float>(t * 7919 % 101) / 25 - 3;
  }
  values[7] = 2.5f;
  values[131] = 3;
  values[298] = 2;
  return values;
}

row probabilities(draft const& d) {
  row p(width, 0);
  double sum = 0;
  for (auto const& [token, weight] : d) { sum += static_cast<double>(weight); }
  for (auto const& [token, weight] : d) {
    p[static_cast<std::size_t>(token)] = static_cast<double>(weight) / sum;
  }
  return p;
}

/// The target itself and others: flatter, of some of its tokens, of others, of nearly none.
std::vector<draft> drafts(row const& target) {
  draft same;
  draft flat;
  for (std::size_t t = 0; t < width; ++t) {
    auto const token = static_cast<token_id>(t);
    if (target[t] > 0) { same.push_back({token, static_cast<float>(target[t])}); }
    if (t % 2 == 1) { flat.push_back({token, 1}); }
  }
  return {same,       flat,    {{7, 0.9f}, {131, 0.05f}, {140, 0.05f}}, {{0, 1}, {1, 3}, {298, 1}},
          {{131, 1}}, {{5, 1}}};
}

/// Chi-square of counts over what is expected below its mean + 5 standard deviations; what is
/// expected less than five times counts together.
bool fits(std::vector<double> const& counts, row const& p, double draws) {
  double chi = 0;
  double freedom = -1;
  double rest = 0;
  double rest_mean = 0;
  auto const add = [&](double found, double mean) {
    chi += (found - mean) * (found - mean) / mean;
    freedom += 1;
  };
  for (std::size_t t = 0; t < width; ++t) {
    if (p[t] == 0 && counts[t] > 0) { return false; }
    if (p[t] * draws < 5) {
      rest += counts[t];
      rest_mean += p[t] * draws;
    } else {
      add(counts[t], p[t] * draws);
    }
  }
  if (rest_mean > 5) { add(rest, rest_mean); }
  return freedom <= 0 || chi <= freedom + 5 * std::sqrt(2 * freedom);
}

constexpr std::uint64_t draws = ::world::sanitized ? 2'000 : 12'000;

/// Every draft, drawn and then taken or replaced under `request`, gives the distribution that the
/// chain has without one.
template <class Chain>
void keeps_the_distribution(typename Chain::parameters const& chosen, sample_request request) {
  Chain chain{{.columns = width}};
  row target = distribution(chain, request, chosen);
  for (double& t : target) { t = std::exp(t); }
  request.logprobs = true;
  std::uint64_t seed = 0;
  for (auto const& d : drafts(target)) {
    request.seed = ++seed;
    request.drawn_from = d;
    auto const q = probabilities(d);
    double overlap = 0;
    for (std::size_t t = 0; t < width; ++t) { overlap += std::min(target[t], q[t]); }
    std::vector<double> counts(width);
    double taken = 0;
    bool told = true;
    for (request.step = 0; request.step < draws; ++request.step) {
      request.drafted = draw(d, seed, request.step, random_use::draft);
      typename Chain::state memory{};
      auto const s = chain.sample(request, chosen, memory);
      auto const t = static_cast<std::size_t>(s.token);
      counts[t] += 1;
      taken += s.token == request.drafted ? 1 : 0;
      told = told && std::abs(static_cast<double>(s.logprob) - std::log(target[t])) < 1e-4;
    }
    auto const n = static_cast<double>(draws);
    INFO("draft " << seed);
    CHECK(told);
    CHECK(fits(counts, target, n));
    // No way to keep the distribution takes more (Leviathan et al., theorem 3.5).
    CHECK(std::abs(taken / n - overlap) <= 5 * std::sqrt(overlap * (1 - overlap) / n) + 1e-5);
  }
}

}  // namespace

TEST_CASE("tokens are distributed as the softmax, whatever was drafted") {
  auto const values = some_logits();
  keeps_the_distribution<sampler<Gumbel>>({}, {.logits = values});
}

TEST_CASE("tokens are distributed as the stages leave them, whatever was drafted") {
  auto const values = some_logits();
  std::vector<std::uint32_t> mask((width + 31) / 32, ~0u);
  mask[131 / 32] &= ~(1u << 131 % 32);
  using chain = sampler<TopK, TopP, Temperature, Gumbel>;
  keeps_the_distribution<chain>({TopK{40}, Temperature{0.7f}}, {.logits = values});
  keeps_the_distribution<chain>({TopP{0.6f}, Temperature{1.5f}}, {.logits = values, .mask = mask});
}

TEST_CASE("a draft from another distribution than is told shows in the tokens") {
  auto const values = some_logits();
  sampler<Gumbel> chain{{.columns = width}};
  row target = distribution(chain, {.logits = values}, {});
  for (double& t : target) { t = std::exp(t); }
  draft const told{{7, 1}, {131, 1}};
  draft const drawn{{7, 9}, {131, 1}};
  std::vector<double> counts(width);
  for (std::uint64_t step = 0; step < draws; ++step) {
    sample_request request{.logits = values, .step = step, .drawn_from = told};
    request.drafted = draw(drawn, 0, step, random_use::draft);
    counts[static_cast<std::size_t>(chain.sample(request, {}).token)] += 1;
  }
  CHECK_FALSE(fits(counts, target, static_cast<double>(draws)));
}

TEST_CASE("where there is no chance a draft changes no token") {
  auto const values = some_logits();
  draft const d{{3, 1}, {7, 1}, {131, 1}};
  sampler<Argmax> first{{.columns = width}};
  sampler<Temperature, Gumbel> cold{{.columns = width}};
  for (token_id const drafted : {3, 7, 131}) {
    sample_request const request{.logits = values, .drafted = drafted, .drawn_from = d};
    CHECK(first.sample(request, {}).token == 131);
    CHECK(cold.sample(request, {Temperature{0}}).token == 131);
  }
}

TEST_CASE("stages that remember see what was left to draw from, not what the draft took") {
  auto const values = some_logits();
  draft const d{{7, 9}, {131, 1}};
  using chain = sampler<Mirostat2, Gumbel>;
  chain sampler{{.columns = width}};
  chain::parameters const chosen{Mirostat2{4, 0.5f}};
  row p = distribution(sampler, {.logits = values}, chosen);
  std::size_t replaced = 0;
  for (std::uint64_t step = 0; step < 200; ++step) {
    sample_request request{.logits = values, .step = step, .drawn_from = d};
    request.drafted = draw(d, 0, step, random_use::draft);
    chain::state memory{};
    auto const token = sampler.sample(request, chosen, memory).token;
    replaced += token == request.drafted ? 0 : 1;
    double const surprise = -p[static_cast<std::size_t>(token)] / std::log(2.0);
    REQUIRE(std::abs(static_cast<double>(memory.get<Mirostat2>().mu) - (8 + 0.5 * (4 - surprise))) <
            1e-3);
  }
  CHECK(replaced > 20);
}

TEST_CASE("a draft that its distribution could not have drawn is refused") {
  auto const values = some_logits();
  sampler<Gumbel> chain{{.columns = width}};
  draft const good{{3, 1}, {7, 1}};
  CHECK_THROWS_AS(chain.sample({.logits = values, .drafted = 4, .drawn_from = good}, {}), error);
  draft const unordered{{7, 1}, {3, 1}};
  CHECK_THROWS_AS(chain.sample({.logits = values, .drafted = 7, .drawn_from = unordered}, {}),
                  error);
}

namespace {

using comm_t = communicator<HostPinned, AllPairs, Cpu>;

struct over_ranks {
  comm_t& comm;
  void max(std::span<std::uint64_t> x) const { allreduce(comm, x, Max{}); }
  void sum(std::span<std::uint64_t> x) const { allreduce(comm, x, Sum{}); }
};

template <class R>
std::vector<token_id> tokens_of(std::size_t first, std::size_t last, R const& reduction) {
  auto const values = some_logits();
  using chain = sampler<TopK, Temperature, Gumbel>;
  chain sampler{{.columns = last - first, .first = first}};
  chain::parameters const chosen{TopK{60}, Temperature{1.2f}};
  std::vector<token_id> all;
  for (auto const& d : drafts(row(width, 1.0 / width))) {
    for (std::uint64_t step = 0; step < 20; ++step) {
      sample_request request{
        .logits = std::span{values}.subspan(first, last - first), .step = step, .drawn_from = d};
      request.drafted = draw(d, 1, step, random_use::draft);
      all.push_back(sampler.sample(request, chosen, reduction).token);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("drafts are taken and replaced alike on all ranks of a vocabulary that is cut") {
  auto const expected = tokens_of(0, width, whole_vocabulary{});
  for (std::size_t const n : {2u, 3u}) {
    ::world::notes found;
    ::world::on_ranks(static_cast<int>(n), [&](group& g) {
      comm_t comm{g};
      auto const rank = static_cast<std::size_t>(g.rank());
      auto const mine = tokens_of(width * rank / n, width * (rank + 1) / n, over_ranks{comm});
      if (mine != expected) { found.add("rank " + std::to_string(rank) + " has other tokens"); }
    });
    REQUIRE(found.all() == "");
  }
}
