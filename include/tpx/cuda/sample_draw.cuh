// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_candidates.cuh>

namespace tpx {
namespace detail {

/// What a draw needs to know of a row: floats say which tokens can win, doubles which does.
struct cuda_race {
  race_noise noise;
  float best;

  static constexpr float margin = 1e-3f;  // floats are good to 1e-4

  /// order_key(logit - best + noise), then the lower token: what the Cpu space compares.
  [[nodiscard]] __device__ std::uint64_t key(std::uint32_t token, float x) const {
    std::uint32_t const b = block_of(token);
    double const wait = noise.of(b, row_of(token), noise.least(b));
    auto const score = static_cast<float>(static_cast<double>(x - best) - ln(wait));
    return std::uint64_t{order_key(score)} << 32 | ~token;
  }

  [[nodiscard]] __device__ static float score(float depth, float wait) {
    return depth - __logf(wait);
  }
  /// Exponential noise of a hash.
  [[nodiscard]] __device__ static float wait(std::uint32_t hash) {
    float const u = (static_cast<float>(hash) + 0.5f) * 0x1p-32f;
    float const rest = (static_cast<float>(~hash) + 0.5f) * 0x1p-32f;  // 1 - u
    float const series = rest * (1 + rest * (0.5f + rest * (1.0f / 3)));
    return rest < 0.01f ? series : -__logf(u);
  }

  [[nodiscard]] __device__ static std::uint32_t block_of(std::uint32_t token) {
    return token / chunk_size * lane_count + token % lane_count;
  }
  [[nodiscard]] __device__ static std::uint32_t row_of(std::uint32_t token) {
    return token % chunk_size / lane_count;
  }
};

}  // namespace detail

/// A draw from the softmax of the candidates, the same as the Cpu space's. First each block of 16
/// tokens tells what its best token can reach; then the blocks that can win are looked at.
[[nodiscard]] __device__ inline token_id draw_from(cuda_candidates& c) {
  using namespace detail;
  constexpr unsigned rows = chunk_rows;
  constexpr unsigned lanes = lane_count;
  cuda_race const race{{c.seed(), c.step()}, c.best()};
  std::uint64_t winner = 0;
  auto const enter = [&](std::uint32_t token, float x) {
    std::uint64_t const mine = race.key(token, x);
    winner = mine > winner ? mine : winner;
  };
  if (c.are_few()) {
    c.for_each([&](std::uint32_t token, float x) {
      if (x > no_logit) { enter(token, x); }
    });
    return static_cast<token_id>(~static_cast<std::uint32_t>(c.largest(winner)));
  }

  auto const place = [](unsigned block, unsigned row) {
    return block / lanes * static_cast<unsigned>(chunk_size) + row * lanes + block % lanes;
  };
  sample_part const part = c.part();
  unsigned const first = part.begin / rows;
  unsigned const blocks = part.count / rows;
  float bound = no_logit;  // what one of this block's tokens has for certain
  TPX_ROLLED
  for (unsigned b = threadIdx.x; b < blocks; b += sample_threads) {
    float most = no_logit;
    unsigned const turned = threadIdx.x / lanes & 1;  // banks
#pragma unroll 4
    for (unsigned r = 0; r < rows; ++r) { most = fmaxf(most, part.logits[place(b, r ^ turned)]); }
    most = c.seen(most);
    float const wait = race.wait(race.noise.least_bits(first + b)) * (1.0f / rows);
    part.reach[b] = race.score(most - race.best, wait);
    float const x = c.at(place(b, race.noise.first_of(first + b)));
    bound = fmaxf(bound, race.score(x - race.best, wait));
  }
  bound =
    from_order_key(static_cast<std::uint32_t>(c.join_block(order_key(bound), joined_by::max))) -
    race.margin;

  unsigned const row = threadIdx.x % rows;
  TPX_ROLLED
  for (unsigned b = threadIdx.x / rows; b < blocks; b += sample_threads / rows) {
    if (!(part.reach[b] > no_logit) || part.reach[b] < bound) { continue; }
    unsigned const i = place(b, row);
    float const x = c.at(i);
    float wait = race.wait(race.noise.least_bits(first + b)) * (1.0f / rows);
    if (race.noise.first_of(first + b) != row) {
      wait += race.wait(race.noise.rest_bits(first + b, row));
    }
    if (x > no_logit && race.score(x - race.best, wait) >= bound) { enter(part.begin + i, x); }
  }
  return static_cast<token_id>(~static_cast<std::uint32_t>(c.largest(winner)));
}

}  // namespace tpx
