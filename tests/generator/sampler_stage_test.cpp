// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "sampler_oracle.hpp"

#include <catch2/catch_test_macros.hpp>

#include <map>

namespace {

using namespace oracle;

std::size_t const sizes[] = {1, 2, 16, 255, 257, 700};

/// Runs one stage over all rows: f(row of logits, slack) gives the logits that should come out;
/// where the stage cuts off, with slack > 0 a little less than it should, with slack < 0 more.
template <class Stage, class F>
void expect_stage(Stage const& stage, F f, std::vector<token_id> const& history = {}) {
  for (std::size_t const n : sizes) {
    sampler<Stage, Argmax> chain{{.columns = n}};
    for (auto const& [name, values] : rows(n, static_cast<unsigned>(n))) {
      INFO(Stage::name << " on " << n << " logits, " << name);
      auto const found = distribution(chain, {.logits = values, .history = history}, {stage});
      row const loose = f(of(values), 1e-5);
      row const strict = f(of(values), -1e-5);
      // The probabilities of what was kept, which is between the two.
      row kept = loose;
      for (std::size_t i = 0; i < n; ++i) {
        if (found[i] == none) { kept[i] = none; }
      }
      row const expected = softmax(kept);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < n; ++i) {
        bool const may = loose[i] > none;
        bool const must = strict[i] > none;
        bool const is = found[i] > none;
        wrong += (is && !may) || (must && !is);
        double const far = std::abs(std::exp(found[i]) - expected[i]);
        wrong += is && far > 2e-4 * expected[i] + 1e-9;
      }
      REQUIRE(wrong == 0);
    }
  }
}

/// The same on a row that is long enough to be sampled, of what is kept alone.
template <class Stage, class F>
void expect_long(Stage const& stage, F f) {
  std::size_t const n = 20000;
  sampler<Stage, Look> chain{{.columns = n}};
  for (auto const& [name, values] : rows(n, 8)) {
    INFO(Stage::name << ", " << name);
    row left(n, none);
    (void)chain.sample({.logits = values}, {stage, Look{&left}});
    row const loose = f(of(values), 1e-6);
    row const strict = f(of(values), -1e-6);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < n; ++i) {
      wrong += left[i] > none && left[i] != loose[i];
      wrong += strict[i] > none && left[i] != strict[i];
    }
    REQUIRE(wrong == 0);
  }
}

row keep_if(row x, auto keep) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!keep(i)) { x[i] = none; }
  }
  return x;
}

}  // namespace

TEST_CASE("min-p keeps what is likely enough beside the best") {
  for (float const p : {0.0f, 0.01f, 0.3f, 1.0f}) {
    expect_stage(MinP{p}, [&](row const& x, double slack) {
      row const q = softmax(x);
      double const best = *std::max_element(q.begin(), q.end());
      return keep_if(x, [&](std::size_t i) {
        return x[i] > none && q[i] >= best * static_cast<double>(p) * (1 - slack);
      });
    });
  }
}

TEST_CASE("top-k keeps the k largest and what is equal to the last") {
  for (int const k : {0, 1, 2, 40, 300, 5000, 19000}) {
    auto const expected = [&](row const& x, double) {
      if (k == 0 || static_cast<std::size_t>(k) >= x.size()) { return x; }
      double const last = x[sorted(x)[static_cast<std::size_t>(k) - 1]];
      return keep_if(x, [&](std::size_t i) { return x[i] >= last; });
    };
    expect_stage(TopK{k}, expected);
    expect_long(TopK{k}, expected);
  }
}

TEST_CASE("top-p keeps what together is at most p, ties all or none") {
  for (float const p : {0.0f, 0.1f, 0.5f, 0.95f, 0.999f, 1.0f}) {
    auto const expected = [&](row const& x, double slack) {
      if (p == 1) { return x; }
      row const q = softmax(x);
      double above = 0;
      double last = none;
      double end = std::numeric_limits<double>::infinity();
      for (std::size_t const i : sorted(x)) {
        // The first of equal ones decides for all.
        if (x[i] != last && above + q[i] > static_cast<double>(p) + slack) { break; }
        end = last = x[i];
        above += q[i];
      }
      double const best = *std::max_element(x.begin(), x.end());
      return keep_if(x, [&](std::size_t i) { return x[i] >= std::min(end, best); });
    };
    expect_stage(TopP{p}, expected);
    expect_long(TopP{p}, expected);
  }
}

TEST_CASE("typical keeps what is nearest to the entropy") {
  for (float const p : {0.1f, 0.5f, 0.95f, 1.0f}) {
    auto const expected = [&](row const& x, double slack) {
      if (p == 1) { return x; }
      row const q = softmax(x);
      double entropy = 0;
      for (double const each : q) { entropy -= each > 0 ? each * std::log(each) : 0; }
      row nearness(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) {
        // What rounding takes apart, as equal probabilities, is put together again.
        double const d = std::abs(-std::log(q[i]) - entropy);
        nearness[i] = x[i] > none ? -std::round(d * 1e5) : none;
      }
      double sum = 0;
      double end = 0;
      for (std::size_t const i : sorted(nearness)) {
        if (sum >= static_cast<double>(p) + slack) { break; }
        sum += q[i];
        end = nearness[i];
      }
      double const width = slack > 0 ? 2 : -2;
      return keep_if(x, [&](std::size_t i) { return nearness[i] >= end - width; });
    };
    expect_stage(Typical{p}, expected);
    expect_long(Typical{p}, expected);
  }
}

TEST_CASE("top-n-sigma keeps what is within n standard deviations of the best") {
  for (float const n : {0.0f, 0.5f, 1.0f, 3.0f}) {
    expect_stage(TopNSigma{n}, [&](row const& x, double slack) {
      if (n == 0) { return x; }
      double const best = *std::max_element(x.begin(), x.end());
      double sum = 0;
      double squares = 0;
      double count = 0;
      for (double const each : x) {
        if (best - each < 1024) {
          sum += each;
          squares += each * each;
          ++count;
        }
      }
      double const mean = sum / count;
      double const sigma = std::sqrt(std::max(0.0, squares / count - mean * mean));
      double const end = best - static_cast<double>(n) * sigma - slack * (1 + 400 * sigma);
      return keep_if(x, [&](std::size_t i) { return x[i] >= std::min(end, best) && x[i] > none; });
    });
  }
}

TEST_CASE("top-a keeps what is at least a times the best probability squared") {
  for (float const a : {0.0f, 0.2f, 1.0f}) {
    expect_stage(TopA{a}, [&](row const& x, double slack) {
      row const q = softmax(x);
      double const best = *std::max_element(q.begin(), q.end());
      double const end = best * best * static_cast<double>(a) * (1 - slack);
      return keep_if(x, [&](std::size_t i) { return x[i] > none && q[i] >= std::min(end, best); });
    });
  }
}

TEST_CASE("mirostat keeps what surprises by at most mu, which follows what is drawn") {
  Mirostat2 const stage{.tau = 3, .eta = 0.2f};
  expect_stage(stage, [&](row const& x, double slack) {
    row const q = softmax(x);
    double const best = *std::max_element(q.begin(), q.end());
    return keep_if(x, [&](std::size_t i) {
      return x[i] > none && q[i] >= std::min(best, std::exp2(-6) * (1 - slack));
    });
  });

  sampler<Mirostat2, Gumbel> chain{{.columns = 700}};
  auto const values = rows(700, 3)[0].values;
  decltype(chain)::state memory{};
  double mu = 6;
  for (std::uint64_t step = 0; step < 50; ++step) {
    row const q = softmax(of(values));
    row const kept = softmax(keep_if(of(values), [&](std::size_t i) {
      return q[i] >= std::min(*std::max_element(q.begin(), q.end()), std::exp2(-mu));
    }));
    auto const token = chain.sample({.logits = values, .step = step}, {stage}, memory).token;
    REQUIRE(kept[static_cast<std::size_t>(token)] > 0);
    mu += 0.2 * (3 + std::log2(kept[static_cast<std::size_t>(token)]));
    REQUIRE(std::abs(static_cast<double>(memory.get<Mirostat2>().mu) - mu) < 1e-3);
  }
}

TEST_CASE("temperature divides logits; 0 keeps the first of the best") {
  for (float const t : {0.25f, 1.0f, 7.0f}) {
    expect_stage(Temperature{t}, [&](row x, double) {
      for (double& each : x) { each /= static_cast<double>(t); }
      return x;
    });
  }
  expect_stage(Temperature{0}, [](row const& x, double) {
    auto const first = static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin());
    return keep_if(x, [&](std::size_t i) { return i == first; });
  });
}

TEST_CASE("dynamic temperature follows the entropy") {
  expect_stage(DynamicTemperature{0.5f, 2.0f, 1.5f}, [](row x, double) {
    double entropy = 0;
    double count = 0;
    for (double const each : softmax(x)) { entropy -= each > 0 ? each * std::log(each) : 0; }
    for (double const each : x) { count += each > none; }
    double const even = count > 1 ? entropy / std::log(count) : 0;
    double const t = 0.5 + 1.5 * std::pow(even, 1.5);
    for (double& each : x) { each /= t; }
    return x;
  });
}

TEST_CASE("a logit bias is added, -infinity bans, and what makes no sense is passed over") {
  float const inf = std::numeric_limits<float>::infinity();
  std::vector<token_bias> const biases{{0, 1.5f}, {1, -4},  {5, -inf},       {300, 2},
                                       {7, inf},  {8, NAN}, {100'000, 3.0f}, {-1, 3.0f}};
  for (std::size_t const n : sizes) {
    if (n == 1) { continue; }
    sampler<LogitBias, Argmax> chain{{.columns = n}};
    auto const values = rows(n, 5)[0].values;
    row expected = of(values);
    expected[0] += 1.5;
    expected[1] -= 4;
    if (n > 5) { expected[5] = none; }
    if (n > 300) { expected[300] += 2; }
    expected = softmax(expected);
    auto const found = distribution(chain, {.logits = values}, {LogitBias{biases}});
    for (std::size_t i = 0; i < n; ++i) {
      REQUIRE(std::abs(std::exp(found[i]) - expected[i]) < 1e-5 * expected[i] + 1e-12);
    }
  }
}

TEST_CASE("penalties fall on the tokens of the history, by how long ago they were") {
  std::vector<token_id> history;
  std::mt19937 random{8};
  for (int i = 0; i < 100; ++i) { history.push_back(static_cast<token_id>(random() % 60) - 1); }
  for (auto const& stage :
       {Penalties{.repetition = 1.3f}, Penalties{.presence = 0.7f, .range = 20},
        Penalties{.frequency = -0.2f, .decay = 10},
        Penalties{
          .repetition = 0.8f, .presence = 0.4f, .frequency = 0.3f, .range = 10, .decay = 40},
        Penalties{.repetition = 3, .range = 0}}) {
    expect_stage(
      stage,
      [&](row x, double) {
        std::map<std::size_t, std::pair<double, double>> seen;
        for (std::size_t i = 0; i < history.size(); ++i) {
          double const ago = static_cast<double>(history.size() - i);
          double f = ago <= stage.range ? 1 : 0;
          if (f == 0 && stage.decay > 0) {
            f = std::max(0.0, 1 - (ago - stage.range) / stage.decay);
          }
          auto const t = static_cast<std::size_t>(history[i]);
          if (f == 0 || history[i] < 0 || t >= x.size()) { continue; }
          seen[t].first = std::max(seen[t].first, f);
          seen[t].second += f;
        }
        for (auto const& [t, f] : seen) {
          double const r = static_cast<double>(stage.repetition);
          double const w = x[t] > 0 ? x[t] / r : x[t] * r;
          if (x[t] == none) { continue; }
          x[t] = x[t] * (1 - f.first) + w * f.first -
                 static_cast<double>(stage.presence) * f.first -
                 static_cast<double>(stage.frequency) * f.second;
        }
        return x;
      },
      history);
  }
}

TEST_CASE("DRY takes from tokens that would prolong a repetition") {
  std::mt19937 random{9};
  for (int round = 0; round < 30; ++round) {
    std::vector<token_id> history;
    std::size_t const length = random() % 60;
    for (std::size_t i = 0; i < length; ++i) {
      history.push_back(static_cast<token_id>(random() % (round % 3 + 1)));
    }
    if (round == 29) { history.assign(3000, 1); }
    std::vector<token_id> const breakers{2};
    Dry const stage{.multiplier = 0.1f,
                    .base = round % 2 == 0 ? 1.3f : 1.0f,
                    .allowed_length = round % 4,
                    .range = round % 5 == 0 ? 17 : 0,
                    .breakers = round % 2 == 0 ? std::span{breakers} : std::span<token_id const>{}};
    std::size_t const n = 20;
    row x(n, 1.0);
    // Straight from the definition: for each earlier token, how far back does the text before it
    // agree with the end of the history?
    std::size_t const window =
      stage.range == 0 ? length
                       : std::min<std::size_t>(length, static_cast<std::size_t>(stage.range));
    if (round == 29) { continue; }
    std::vector<int> most(n, -1);
    for (std::size_t at = length - window + 1;
         at < length && window > static_cast<std::size_t>(stage.allowed_length); ++at) {
      int agree = 0;
      while (at > length - window + static_cast<std::size_t>(agree)) {
        auto const a = history[at - 1 - static_cast<std::size_t>(agree)];
        auto const b = history[length - 1 - static_cast<std::size_t>(agree)];
        bool const stop =
          std::find(stage.breakers.begin(), stage.breakers.end(), b) != stage.breakers.end();
        if (a != b || stop) { break; }
        ++agree;
      }
      bool const breaker = std::find(stage.breakers.begin(), stage.breakers.end(), history[at]) !=
                           stage.breakers.end();
      if (!breaker) {
        most[static_cast<std::size_t>(history[at])] =
          std::max(most[static_cast<std::size_t>(history[at])], agree);
      }
    }
    for (std::size_t t = 0; t < n; ++t) {
      if (most[t] >= stage.allowed_length) {
        x[t] -= 0.1 * std::pow(static_cast<double>(stage.base),
                               std::min(most[t] - stage.allowed_length, 400));
      }
    }
    row const expected = softmax(x);
    sampler<Dry, Argmax> chain{{.columns = n}};
    std::vector<float> const ones(n, 1.0f);
    auto const found = distribution(chain, {.logits = ones, .history = history}, {stage});
    for (std::size_t t = 0; t < n; ++t) {
      INFO("round " << round << " token " << t);
      REQUIRE(std::abs(std::exp(found[t]) - expected[t]) < 1e-5);
    }
  }
}

TEST_CASE("DRY is linear in the history, however much of it repeats") {
  std::vector<token_id> const history(200'000, 3);
  sampler<Dry, Argmax> chain{{.columns = 20}};
  std::vector<float> const ones(20, 1.0f);
  // Charged for 2048 - 2 + 1 tokens at base 1.001, and so never picked.
  auto const found = distribution(chain, {.logits = ones, .history = history},
                                  {Dry{.multiplier = 1, .base = 1.001f}});
  double const penalty = std::pow(static_cast<double>(1.001f), 2046);
  REQUIRE(std::abs((found[0] - found[3]) - penalty) < 1e-3);
}

TEST_CASE("XTC averages over leaving out the top choices") {
  std::vector<token_id> const keep{2, 5, 350};
  for (float const p : {0.0f, 0.3f, 0.9f}) {
    for (float const threshold : {0.001f, 0.02f, 0.1f, 0.6f}) {
      expect_stage(Xtc{p, threshold, keep}, [&](row x, double) {
        row const q = softmax(x);
        if (threshold > 0.5f) { return x; }
        double least = 2;
        for (std::size_t i = 0; i < x.size(); ++i) {
          bool const kept =
            std::find(keep.begin(), keep.end(), static_cast<token_id>(i)) != keep.end();
          if (!kept && q[i] >= static_cast<double>(threshold)) { least = std::min(least, q[i]); }
        }
        auto const out = [&](std::size_t i) {
          bool const kept =
            std::find(keep.begin(), keep.end(), static_cast<token_id>(i)) != keep.end();
          return !kept && q[i] > least * (1 + 1e-9) && q[i] >= static_cast<double>(threshold);
        };
        double m = 0;
        for (std::size_t i = 0; i < x.size(); ++i) { m += out(i) ? q[i] : 0; }
        double const by =
          std::log((1 - static_cast<double>(p)) / (1 + static_cast<double>(p) * m / (1 - m)));
        for (std::size_t i = 0; i < x.size(); ++i) { x[i] += out(i) ? by : 0; }
        return x;
      });
    }
  }
}

TEST_CASE("adaptive-p favours probabilities near a target that follows what is drawn") {
  AdaptiveP const stage{.target = 0.2f, .decay = 0.8f};
  sampler<AdaptiveP, Gumbel> chain{{.columns = 700}};
  decltype(chain)::state memory{};
  auto const values = rows(700, 3)[0].values;
  double sum = 0.2 / (1 - 0.8);
  double weight = 1 / (1 - 0.8);
  row const q = softmax(of(values));
  for (std::uint64_t step = 0; step < 20; ++step) {
    double const aim = std::clamp(2 * 0.2 - sum / weight, 0.0, 1.0);
    row x(values.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      double const off = std::abs(q[i] - aim) / 0.3;
      x[i] = 5 - 10 * off * off / (1 + off);
    }
    row const expected = softmax(x);
    std::vector<token_logprob> top(values.size());
    auto const drawn = chain.sample({.logits = values, .step = step, .top = top}, {stage}, memory);
    REQUIRE(drawn.top.size() == values.size());
    for (auto const& [token, logprob] : drawn.top) {
      double const should = expected[static_cast<std::size_t>(token)];
      REQUIRE(std::abs(std::exp(static_cast<double>(logprob)) - should) < 1e-4 * should);
    }
    sum = q[static_cast<std::size_t>(drawn.token)] + 0.8 * sum;
    weight = 1 + 0.8 * weight;
    REQUIRE(std::abs(static_cast<double>(memory.get<AdaptiveP>().weighted_sum) - sum) < 1e-4);
  }
}
