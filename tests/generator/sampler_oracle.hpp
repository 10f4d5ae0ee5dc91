// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sampler.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

/// Plain doubles: rows of logits, and what stages make of them straight from their definitions.
namespace oracle {

using namespace tpx;
using namespace tpx::sample;

inline constexpr double none = -std::numeric_limits<double>::infinity();
using row = std::vector<double>;

struct logits {
  std::string name;
  std::vector<float> values;
};

/// Rows of every kind: random, flat, peaked, tied, half forbidden, far apart.
inline std::vector<logits> rows(std::size_t n, unsigned seed) {
  std::mt19937 random{seed};
  std::normal_distribution<float> normal;
  auto const make = [&](std::string name, auto f) {
    logits made{std::move(name), std::vector<float>(n)};
    for (float& x : made.values) { x = f(); }
    return made;
  };
  float const minus = -std::numeric_limits<float>::infinity();
  std::vector<logits> all;
  all.push_back(make("random", [&] { return 3 * normal(random); }));
  all.push_back(make("flat", [&] { return 0.1f * normal(random); }));
  all.push_back(make("equal", [&] { return -2.5f; }));
  all.push_back(make("tied", [&] { return 0.5f * std::round(4 * normal(random)); }));
  all.push_back(make("half -inf", [&] { return random() % 2 == 0 ? minus : normal(random); }));
  all.back().values[0] = 0.5f;
  all.push_back(make("far apart", [&] { return 1e4f * normal(random); }));
  all.push_back(make("peaked", [&] { return random() % 200 == 0 ? 12.0f : normal(random) - 6; }));
  // What a sampler sees that looks at the beginnings of chunks is not what the rest is like.
  for (float const off : {-3.0f, 3.0f}) {
    all.push_back(make("other beginnings", [&, i = 0]() mutable {
      return normal(random) + (i++ % 256 < 16 ? off : 0);
    }));
  }
  all.push_back(make("one", [&] { return minus; }));
  all.back().values[n / 2] = -7;
  all.push_back(make("zeros", [&] { return random() % 2 == 0 ? 0.0f : -0.0f; }));
  return all;
}

inline row of(std::vector<float> const& x) {
  return {x.begin(), x.end()};
}

inline row softmax(row const& x) {
  double const best = *std::max_element(x.begin(), x.end());
  row p(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) { p[i] = std::exp(x[i] - best); }
  double const total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& each : p) { each /= total; }
  return p;
}

/// A stage that picks nothing, but shows what is left to draw from.
struct Look {
  static constexpr std::string_view name = "Look";
  row* left = nullptr;

  [[nodiscard]] bool neutral() const { return false; }
  void validate() const {}
  template <class R>
  [[nodiscard]] token_id pick(candidates<R>& c) const {
    c.for_each_from(std::numeric_limits<float>::lowest(), [&](token_id token, float logit) {
      (*left)[static_cast<std::size_t>(token)] = static_cast<double>(logit);
    });
    return 0;
  }
};

/// Tokens in the order of `key`, largest first.
inline std::vector<std::size_t> sorted(row const& key) {
  std::vector<std::size_t> order(key.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return key[a] > key[b] || (key[a] == key[b] && a < b);
  });
  return order;
}

/// Log-probabilities by token, -infinity for what cannot be drawn.
template <class Chain>
row distribution(Chain& sampler, sample_request request, typename Chain::parameters const& chosen) {
  std::vector<token_logprob> room(request.logits.size());
  request.top = room;
  typename Chain::state memory{};
  auto const drawn = sampler.sample(request, chosen, memory);
  row found(request.logits.size(), none);
  for (auto const& [token, logprob] : drawn.top) {
    found[static_cast<std::size_t>(token)] = static_cast<double>(logprob);
  }
  return found;
}

}  // namespace oracle
