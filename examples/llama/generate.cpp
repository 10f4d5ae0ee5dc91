// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "generate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace llama {
namespace {

/// 64 bits that look random, from a counter. Source: Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014 (SplitMix64).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

}  // namespace

std::int32_t sample(std::span<float const> logits, double temperature, std::uint64_t seed,
                    std::uint64_t step) {
  auto const stream = mix(mix(seed) ^ step);
  double best = -std::numeric_limits<double>::infinity();
  std::size_t drawn = logits.size();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    auto const bits = mix(stream ^ mix(i)) >> 11;
    double const uniform = (static_cast<double>(bits) + 0.5) * 0x1p-53;  // in (0, 1)
    double const score = logits[i] / temperature - std::log(-std::log(uniform));
    if (score > best) {
      best = score;
      drawn = i;
    }
  }
  tpx::expects(drawn < logits.size() && std::isfinite(best), "no logit is finite",
               "check the checkpoint: its weights give infinities or NaNs");
  return static_cast<std::int32_t>(drawn);
}

result generate(tpx::group& g, engine& model, request const& r,
                std::function<void(std::int32_t)> const& each) {
  using clock = std::chrono::steady_clock;
  result done;
  std::span<std::int32_t const> next{r.prompt};
  auto begun = clock::now();
  auto before = model.collectives();
  while (done.tokens.size() < r.tokens) {
    std::int32_t token = 0;
    if (r.temperature > 0) {
      auto const logits = model.forward(next);
      if (g.rank() == 0) { token = sample(logits, r.temperature, r.seed, done.tokens.size()); }
      token = static_cast<std::int32_t>(g.decide(static_cast<std::uint64_t>(token)));
    } else {
      token = model.greedy(next);
    }
    done.tokens.push_back(token);
    next = std::span{done.tokens}.last(1);
    if (each && g.rank() == 0) { each(token); }
    if (done.tokens.size() == 1) {
      begun = clock::now();
      before = model.collectives();
    }
    if (std::ranges::find(r.ending, token) != r.ending.end()) { break; }
  }
  auto const after = model.collectives();
  done.steps = done.tokens.empty() ? 0 : done.tokens.size() - 1;
  done.seconds = std::chrono::duration<double>(clock::now() - begun).count();
  done.collectives = after.calls - before.calls;
  auto const all = g.exchange(after.ns - before.ns);
  for (int rank = 0; rank < g.size(); ++rank) {
    done.seconds_in_collectives +=
      static_cast<double>(all[static_cast<std::size_t>(rank)]) * 1e-9 / g.size();
  }
  return done;
}

}  // namespace llama
