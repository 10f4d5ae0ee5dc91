// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "../counting_new.hpp"
#include "sampler_oracle.hpp"

#include <tpx/generator/any_sampler.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>

namespace {

using namespace oracle;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t draws = 4000;
#else
constexpr std::uint64_t draws = 60000;
#endif

float const inf = std::numeric_limits<float>::infinity();

std::string message_of(auto&& f) {
  try {
    f();
  } catch (error const& e) {
    return e.code() == errc::invalid_argument ? e.what() : "another code";
  }
  return "no error";
}

bool contains(std::string const& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// Whether counts are as likely as expected: chi-square against its mean and five deviations.
bool fits(std::vector<double> const& counts, row const& p) {
  double total = 0;
  for (double const c : counts) { total += c; }
  double chi = 0;
  double cells = -1;
  double rest = 0;
  double rest_expected = 0;
  auto const cell = [&](double seen, double expected) {
    chi += (seen - expected) * (seen - expected) / expected;
    ++cells;
  };
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] * total >= 5) {
      cell(counts[i], p[i] * total);
    } else {
      rest += counts[i];
      rest_expected += p[i] * total;
    }
  }
  if (rest_expected > 1) {
    cell(rest, rest_expected);
  } else if (rest > 8) {
    return false;
  }
  return chi < cells + 5 * std::sqrt(2 * std::max(cells, 1.0)) + 5;
}

/// A stage of a user: only even tokens, and of these every logit halved.
struct Even {
  static constexpr std::string_view name = "Even";
  bool on = false;

  [[nodiscard]] bool neutral() const { return !on; }
  void validate() const {}
  template <class C>
  void apply(C& c) const {
    c.transform([](detail::lanes& x, token_id) {
      detail::int_lanes const odd = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
      detail::keep(x, odd == 0);
    });
    c.multiply(0.5f);
  }
};
static_assert(sampler_stage<Even>);

}  // namespace

TEST_CASE("argmax takes the first of the largest logits") {
  for (std::size_t const n : {1u, 2u, 15u, 16u, 17u, 256u, 1000u}) {
    sampler<Argmax> greedy{{.columns = n}};
    for (auto const& [name, values] : rows(n, 4)) {
      INFO(name << ", " << n);
      auto const best = std::max_element(values.begin(), values.end()) - values.begin();
      REQUIRE(greedy.sample({.logits = values}, {}).token == best);
    }
  }
}

TEST_CASE("Gumbel draws from the softmax") {
  for (std::size_t const n : {5u, 300u, 1000u}) {
    for (auto const& [name, values] : rows(n, 6)) {
      INFO(name << ", " << n);
      sampler<Gumbel> chain{{.columns = n}};
      std::vector<double> counts(n);
      for (std::uint64_t step = 0; step < draws / 4; ++step) {
        counts[static_cast<std::size_t>(
          chain.sample({.logits = values, .seed = n, .step = step}, {}).token)] += 1;
      }
      REQUIRE(fits(counts, softmax(of(values))));
    }
  }
}

TEST_CASE("a cut and tempered distribution is drawn from as it is reported") {
  std::size_t const n = 1000;
  sampler<TopK, TopP, MinP, Temperature, Gumbel> chain{{.columns = n}};
  decltype(chain)::parameters const chosen{TopK{100}, TopP{0.9f}, MinP{0.01f}, Temperature{0.7f}};
  auto const values = rows(n, 6)[0].values;
  row p = distribution(chain, {.logits = values}, chosen);
  for (double& each : p) { each = std::exp(each); }
  std::vector<double> counts(n);
  for (std::uint64_t step = 0; step < draws; ++step) {
    auto const t = chain.sample({.logits = values, .seed = step, .step = 3}, chosen).token;
    REQUIRE(p[static_cast<std::size_t>(t)] > 0);
    counts[static_cast<std::size_t>(t)] += 1;
  }
  REQUIRE(fits(counts, p));
}

TEST_CASE("draws of successive steps and of successive seeds are independent") {
  // Tokens 0, 16 and 32 share a block of the noise.
  std::vector<float> values(40, -inf);
  for (std::size_t const t : {0u, 1u, 16u, 32u}) { values[t] = 0; }
  std::array<int, 40> number{};
  number[1] = 1;
  number[16] = 2;
  number[32] = 3;
  sampler<Gumbel> chain{{.columns = 40}};
  auto const draw = [&](std::uint64_t seed, std::uint64_t step) {
    auto const t = chain.sample({.logits = values, .seed = seed, .step = step}, {}).token;
    return static_cast<std::size_t>(number[static_cast<std::size_t>(t)]);
  };
  std::vector<double> steps(64);
  std::vector<double> seeds(64);
  for (std::uint64_t i = 0; i < draws; ++i) {
    steps[16 * draw(1, i) + 4 * draw(1, i + 1) + draw(1, i + 2)] += 1;
    seeds[16 * draw(i, 1) + 4 * draw(i + 1, 1) + draw(i + 1, 2)] += 1;
  }
  REQUIRE(fits(steps, row(64, 1.0 / 64)));
  REQUIRE(fits(seeds, row(64, 1.0 / 64)));
}

TEST_CASE("a token depends on seed and step, and on nothing else") {
  auto const values = rows(700, 1)[1].values;
  sampler<Gumbel> a{{.columns = 700}};
  sampler<TopK, Gumbel> b{{.columns = 700}};
  std::size_t other = 0;
  for (std::uint64_t step = 0; step < 200; ++step) {
    auto const t = a.sample({.logits = values, .seed = 9, .step = step}, {}).token;
    REQUIRE(a.sample({.logits = values, .seed = 9, .step = step}, {}).token == t);
    REQUIRE(b.sample({.logits = values, .seed = 9, .step = step}, {}).token == t);
    // Noise is a token's own: without the tokens that did not win, the same one wins.
    std::vector<std::uint32_t> mask(22);
    mask[static_cast<std::size_t>(t) / 32] |= 1u << t % 32;
    mask[static_cast<std::size_t>(step) % 22] |= static_cast<std::uint32_t>(step * 0x9e3779b9u);
    REQUIRE(a.sample({.logits = values, .mask = mask, .seed = 9, .step = step}, {}).token == t);
    other += a.sample({.logits = values, .seed = 10, .step = step}, {}).token != t;
  }
  REQUIRE(other > 180);
}

TEST_CASE("a mask, and a vocabulary narrower than the row, forbid what they do not allow") {
  std::mt19937 random{2};
  for (std::size_t const n : {1u, 33u, 256u, 700u, 1025u}) {
    auto const values = rows(n, 2)[0].values;
    for (std::size_t const vocab : {n, n - n / 3}) {
      sampler<MinP, Argmax> chain{{.columns = n, .vocab = vocab}};
      for (unsigned kind = 0; kind < 8; ++kind) {
        std::vector<std::uint32_t> mask((n + 31) / 32);
        for (auto& word : mask) {
          word = kind == 0 ? ~0u
                           : static_cast<std::uint32_t>(random()) &
                               static_cast<std::uint32_t>(random() << kind);
        }
        mask[0] |= 1;
        if (kind == 3) { mask.resize((mask.size() + 1) / 2); }  // the rest is forbidden
        row expected = of(values);
        for (std::size_t i = 0; i < n; ++i) {
          bool const allowed = i / 32 < mask.size() && (mask[i / 32] >> i % 32 & 1) != 0;
          if (!allowed || i >= vocab) { expected[i] = none; }
        }
        expected = softmax(expected);
        auto const found = distribution(chain, {.logits = values, .mask = mask}, {});
        for (std::size_t i = 0; i < n; ++i) {
          REQUIRE((found[i] > none) == (expected[i] > 0));
          REQUIRE(std::abs(std::exp(found[i]) - expected[i]) < 1e-4 * expected[i] + 1e-12);
        }
      }
    }
  }
}

TEST_CASE("a logit that is not a number is an error that names the request, and never a token") {
  sampler<TopK, Mirostat2, Gumbel> chain{{.columns = 600}};
  decltype(chain)::parameters const chosen{TopK{5}, Mirostat2{.tau = 3}};
  for (float const bad : {NAN, -NAN, inf, 2e30f}) {
    for (std::size_t const at : {0u, 15u, 300u, 599u}) {
      auto values = rows(600, 1)[0].values;
      values[at] = bad;
      decltype(chain)::state memory{};
      auto const said =
        message_of([&] { (void)chain.sample({.logits = values, .id = 17}, chosen, memory); });
      INFO(said);
      REQUIRE(contains(said, "request 17"));
      REQUIRE(contains(said, "not a number"));
      REQUIRE_FALSE(memory.get<Mirostat2>().begun);
      // Where it is forbidden it is not read.
      std::vector<std::uint32_t> mask(19, ~0u);
      mask[at / 32] &= ~(1u << at % 32);
      auto const token = chain.sample({.logits = values, .mask = mask}, chosen, memory).token;
      REQUIRE(token != static_cast<token_id>(at));
    }
  }
}

TEST_CASE("a request that no token is left for is an error that names it") {
  auto const values = rows(600, 1)[0].values;
  std::vector<float> const forbidden(600, -inf);
  std::vector<std::uint32_t> const mask(19, 0);
  std::vector<token_bias> const ban{{0, -inf}};
  std::vector<std::uint32_t> const first{1};
  sampler<LogitBias, Gumbel> chain{{.columns = 600}};
  for (auto const& said :
       {message_of([&] { (void)chain.sample({.logits = values, .mask = mask, .id = 8}, {}); }),
        message_of([&] { (void)chain.sample({.logits = forbidden, .id = 8}, {}); }),
        message_of([&] {
          (void)chain.sample({.logits = values, .mask = first, .id = 8}, {LogitBias{ban}});
        })}) {
    INFO(said);
    REQUIRE(contains(said, "request 8 allows no token"));
  }
  REQUIRE(contains(
    message_of([&] { (void)chain.sample({.logits = std::span{values}.first(599), .id = 8}, {}); }),
    "request 8 has 599 logits, not 600"));
}

TEST_CASE("parameters out of range are refused when they are made") {
  auto const refused = [](auto const& stage) {
    using S = std::remove_cvref_t<decltype(stage)>;
    return contains(message_of([&] { sample_parameters<S> const made{stage}; }), S::name);
  };
  REQUIRE(refused(TopK{-1}));
  for (float const p : {-0.1f, 1.1f, NAN}) {
    REQUIRE(refused(TopP{p}));
    REQUIRE(refused(MinP{p}));
    REQUIRE(refused(Typical{p}));
    REQUIRE(refused(TopA{p}));
    REQUIRE(refused(Xtc{p, 0.1f}));
    REQUIRE(refused(Xtc{0.5f, p}));
    REQUIRE(refused(AdaptiveP{p}));
  }
  for (float const t : {-1.0f, NAN, inf, 1e-9f}) {
    REQUIRE(refused(Temperature{t}));
    REQUIRE(refused(DynamicTemperature{t, 2}));
  }
  REQUIRE(refused(DynamicTemperature{2, 1}));
  REQUIRE(refused(TopNSigma{-1}));
  REQUIRE(refused(Mirostat2{.tau = -1}));
  REQUIRE(refused(Mirostat2{.tau = 1, .eta = NAN}));
  REQUIRE(refused(AdaptiveP{0.5f, 1.0f}));
  REQUIRE(refused(Penalties{.repetition = 0}));
  REQUIRE(refused(Penalties{.presence = NAN}));
  REQUIRE(refused(Penalties{.repetition = 2, .range = -1}));
  REQUIRE(refused(Dry{.multiplier = -1}));
  REQUIRE(refused(Dry{.multiplier = 1, .allowed_length = -1}));
  std::vector<token_id> const unsorted{3, 1};
  REQUIRE(refused(Dry{.multiplier = 1, .breakers = unsorted}));
  REQUIRE(refused(Xtc{0.5f, 0.1f, unsorted}));
}

TEST_CASE("log-probabilities are told before and after the stages") {
  std::size_t const n = 900;
  sampler<TopK, Temperature, Gumbel> chain{{.columns = n}};
  decltype(chain)::parameters const chosen{TopK{12}, Temperature{0.5f}};
  for (auto const& [name, values] : rows(n, 11)) {
    INFO(name);
    std::vector<std::uint32_t> mask((n + 31) / 32, 0xfffffffeu);  // not token 0, 32, ...
    mask[n / 2 / 32] = ~0u;
    row cut = of(values);
    for (std::size_t i = 0; i < n; i += 32) { cut[i] = mask[i / 32] % 2 == 0 ? none : cut[i]; }
    double const last = cut[sorted(cut)[11]];
    for (double& each : cut) { each = each >= last ? each / 0.5 : none; }
    row const after = softmax(cut);
    row const before = softmax(of(values));
    std::array<token_logprob, 20> top{};
    std::array<token_logprob, 7> raw{};
    auto const drawn = chain.sample(
      {.logits = values, .mask = mask, .logprobs = true, .top = top, .raw_top = raw}, chosen);
    auto const t = static_cast<std::size_t>(drawn.token);
    auto const near = [](float logprob, double p) {
      return std::abs(std::exp(static_cast<double>(logprob)) - p) < 1e-4 * p + 1e-10;
    };
    REQUIRE(near(drawn.logprob, after[t]));
    REQUIRE(near(drawn.raw_logprob, before[t]));
    std::size_t larger = 0;
    for (float const x : values) { larger += x > values[t]; }
    REQUIRE(drawn.rank == larger + 1);
    auto const listed = [&](std::span<token_logprob const> list, row const& p, row const& by,
                            std::size_t most) {
      std::size_t possible = 0;
      for (double const each : by) { possible += each > none; }
      REQUIRE(list.size() == std::min(most, possible));
      auto const order = sorted(by);
      for (std::size_t i = 0; i < list.size(); ++i) {
        REQUIRE(static_cast<std::size_t>(list[i].token) == order[i]);
        REQUIRE(near(list[i].logprob, p[order[i]]));
      }
    };
    listed(drawn.top, after, cut, top.size());
    listed(drawn.raw_top, before, of(values), raw.size());
  }
}

TEST_CASE("a stage of the user's own goes into a chain like any other") {
  std::size_t const n = 300;
  sampler<TopK, Even, MinP, Gumbel> chain{{.columns = n}};
  auto const values = rows(n, 5)[0].values;
  row expected = of(values);
  for (std::size_t i = 0; i < n; ++i) { expected[i] = i % 2 == 0 ? expected[i] / 2 : none; }
  expected = softmax(expected);
  auto const found = distribution(chain, {.logits = values}, {Even{true}});
  for (std::size_t i = 0; i < n; ++i) {
    REQUIRE(std::abs(std::exp(found[i]) - expected[i]) < 1e-5 * expected[i] + 1e-12);
  }
  REQUIRE(distribution(chain, {.logits = values}, {})[1] > none);
}

TEST_CASE("a batch gives each row its own parameters, state, seed and mask") {
  using chain = sampler<Penalties, TopP, Mirostat2, Temperature, Gumbel>;
  std::size_t const n = 500;
  chain together{{.columns = n}};
  auto const all = rows(n, 2);
  std::vector<token_id> const history{1, 2, 3, 2};
  std::vector<sample_request> requests;
  std::vector<chain::parameters> chosen;
  for (std::size_t i = 0; i < all.size(); ++i) {
    requests.push_back(
      {.logits = all[i].values, .history = history, .seed = i, .logprobs = i % 2 == 0});
    chosen.push_back({TopP{1 - 0.05f * static_cast<float>(i)},
                      Temperature{0.5f + 0.2f * static_cast<float>(i)},
                      Mirostat2{.tau = static_cast<float>(i % 3)}});
  }
  std::vector<chain::state> states(all.size());
  std::vector<sampled> results(all.size());
  for (std::uint64_t step = 0; step < 5; ++step) {
    auto const before = states;
    for (auto& r : requests) { r.step = step; }
    together.sample(requests, chosen, states, results);
    for (std::size_t i = 0; i < all.size(); ++i) {
      chain alone{{.columns = n}};
      auto memory = before[i];
      auto const drawn = alone.sample(requests[i], chosen[i], memory);
      REQUIRE(drawn.token == results[i].token);
      REQUIRE(drawn.logprob == results[i].logprob);
      REQUIRE(drawn.rank == results[i].rank);
      REQUIRE(memory.get<Mirostat2>().mu == states[i].get<Mirostat2>().mu);
    }
  }
  REQUIRE_THROWS_AS(together.sample(requests, chosen, std::span{states}.first(1), results), error);
}

TEST_CASE("a chain is chosen at run time among those that were compiled") {
  using one = sampler<TopK, Gumbel>;
  using two = sampler<MinP, Mirostat2, Gumbel>;
  using any = any_sampler<sampler<Argmax>, one, two>;
  auto const values = rows(400, 5)[0].values;
  any chosen{{"MinP", "Mirostat2", "Gumbel"}, {.columns = 400}};
  any::parameters parameters{MinP{0.1f}, Mirostat2{.tau = 4}};
  any::state memory{};
  two same{{.columns = 400}};
  two::state own{};
  for (std::uint64_t step = 0; step < 20; ++step) {
    sample_request const request{.logits = values, .step = step};
    REQUIRE(chosen.sample(request, parameters, memory).token ==
            same.sample(request, {MinP{0.1f}, Mirostat2{.tau = 4}}, own).token);
  }
  chosen.check(parameters);
  parameters.set(TopK{3});
  REQUIRE(contains(message_of([&] { chosen.check(parameters); }),
                   "TopK is set, but the chain is MinP Mirostat2 Gumbel"));
  std::string said;
  try {
    any const none{{"MinP", "Gumbel"}, {.columns = 400}};
  } catch (error const& e) { said = e.what(); }
  INFO(said);
  REQUIRE(contains(said, "no chain MinP Gumbel"));
  REQUIRE(contains(said, "there are: Argmax; TopK Gumbel; MinP Mirostat2 Gumbel"));
}

TEST_CASE("a token that counts for nothing any more takes no place among the penalties") {
  sampler<Penalties, Argmax> pick{{.columns = 16}};
  std::vector<float> const logits(16, 1.0f);
  std::vector<token_id> history{0};  // as far back as the decay goes
  for (token_id t = 0; t < 16; ++t) { history.push_back(t); }
  history.back() = 3;  // all but the last occur, one of them twice
  auto const chosen = pick.sample({.logits = logits, .history = history},
                                  {Penalties{.presence = 1, .range = 10, .decay = 7}});
  REQUIRE(chosen.token == 15);
  history.back() = 15;  // all of them
  REQUIRE(pick
            .sample({.logits = logits, .history = history},
                    {Penalties{.presence = 1, .range = 10, .decay = 7}})
            .token == 0);
}

TEST_CASE("sampling allocates nothing") {
  using chain = sampler<LogitBias, Penalties, Dry, TopNSigma, TopK, Typical, TopP, MinP, TopA, Xtc,
                        DynamicTemperature, Temperature, Mirostat2, AdaptiveP, Gumbel>;
  std::size_t const n = 3000;
  chain every{{.columns = n}};
  std::vector<token_bias> const biases{{5, 1.0f}, {2900, -2.0f}};
  std::vector<token_id> history(500);
  for (std::size_t i = 0; i < history.size(); ++i) {
    history[i] = static_cast<token_id>(i * i % 37);
  }
  chain::parameters const chosen{LogitBias{biases},
                                 Penalties{.repetition = 1.1f},
                                 Dry{.multiplier = 0.5f},
                                 TopNSigma{3},
                                 TopK{400},
                                 Typical{0.99f},
                                 TopP{0.98f},
                                 MinP{0.001f},
                                 TopA{0.001f},
                                 Xtc{0.3f, 0.05f},
                                 DynamicTemperature{0.7f, 1.2f},
                                 Temperature{0.9f},
                                 Mirostat2{.tau = 5},
                                 AdaptiveP{0.3f}};
  std::array<token_logprob, 10> top{};
  std::array<token_logprob, 10> raw{};
  std::vector<std::uint32_t> mask((n + 31) / 32, 0x7fffffffu);
  chain::state memory{};
  for (auto const& [name, values] : rows(n, 3)) {
    auto const before = allocations;
    for (std::uint64_t step = 0; step < 5; ++step) {
      (void)every.sample({.logits = values,
                          .history = history,
                          .mask = mask,
                          .step = step,
                          .logprobs = true,
                          .top = top,
                          .raw_top = raw},
                         chosen, memory);
    }
    auto const after = allocations;
    INFO(name);
    REQUIRE(after == before);
  }
}
