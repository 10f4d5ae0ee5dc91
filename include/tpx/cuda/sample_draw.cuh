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

  /// The token's score in floats.
  [[nodiscard]] __device__ float rough(std::uint32_t token, float x) const {
    std::uint32_t const b = block_of(token);
    float all = wait(noise.least_bits(b)) * (1.0f / chunk_rows);
    if (noise.first_of(b) != row_of(token)) { all += wait(noise.rest_bits(b, row_of(token))); }
    return score(x - best, all);
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
/// tokens tells what its best token can reach; then the blocks that can win are looked at, in
/// floats, and in doubles only if a second token comes close to the first.
[[nodiscard]] __device__ inline token_id draw_from(cuda_candidates& c) {
  using namespace detail;
  constexpr unsigned rows = chunk_rows;
  constexpr unsigned lanes = lane_count;
  cuda_race const race{{c.seed(), c.step()}, c.best()};
  sample_part const part = c.part();
  bool const few = c.are_few();
  unsigned const first = part.begin / rows;
  unsigned const blocks = few ? 0 : part.count / rows;
  auto const place = [](unsigned block, unsigned row) {
    return block / lanes * static_cast<unsigned>(chunk_size) + row * lanes + block % lanes;
  };
  float bound = no_logit;  // what one of this block's tokens has for certain
  TPX_ROLLED
  for (unsigned b = threadIdx.x; b < blocks; b += sample_threads) {
    float most = no_logit;
    unsigned const turned = threadIdx.x / lanes & 1;  // banks
    float const* const x = part.at(place(b, 0));
    TPX_UNROLL
    for (unsigned r = 0; r < rows; ++r) { most = fmaxf(most, x[(r ^ turned) * lanes]); }
    most = c.seen(most);
    float const wait = race.wait(race.noise.least_bits(first + b)) * (1.0f / rows);
    part.reach[b] = race.score(most - race.best, wait);
    float const it = c.seen(x[race.noise.first_of(first + b) * lanes]);
    bound = fmaxf(bound, race.score(it - race.best, wait));
  }
  if (!few) {
    bound =
      from_order_key(static_cast<std::uint32_t>(c.join_block(order_key(bound), joined_by::max))) -
      race.margin;
  }

  /// enter(token, logit) for this thread's candidates whose score, in floats, is not under `from`.
  auto const each_over = [&](float from, auto enter) {
    if (few) {
      std::uint32_t const token = threadIdx.x < part.count ? part.left[threadIdx.x] : 0;
      float const x = threadIdx.x < part.count ? c.at(threadIdx.x) : no_logit;
      if (x > no_logit) {
        float const score = race.rough(token, x);
        if (score >= from) { enter(token, x, score); }
      }
      return;
    }
    unsigned const lane = threadIdx.x % 32;
    TPX_ROLLED
    for (unsigned b = threadIdx.x - lane; b < blocks; b += sample_threads) {
      float const reach = b + lane < blocks ? part.reach[b + lane] : no_logit;
      unsigned left = __ballot_sync(~0u, reach > no_logit && reach >= from);
      TPX_ROLLED
      for (; left != 0; left &= left - 1) {
        unsigned const at =
          place(b + static_cast<unsigned>(__ffs(static_cast<int>(left)) - 1), lane);
        float const x = lane < rows ? c.at(at) : no_logit;
        if (!(x > no_logit)) { continue; }
        float const score = race.rough(part.begin + at, x);
        if (score >= from) { enter(part.begin + at, x, score); }
      }
    }
  };
  std::uint64_t winner = 0;
  float second = no_logit;  // of the other tokens' scores
  each_over(bound, [&](std::uint32_t token, float, float score) {
    std::uint64_t const mine = std::uint64_t{order_key(score)} << 32 | ~token;
    float const over = from_order_key(static_cast<std::uint32_t>(winner >> 32));
    if (mine > winner) {
      second = winner != 0 ? over : no_logit;
      winner = mine;
    } else {
      second = fmaxf(second, score);
    }
  });
  std::uint64_t const best = c.join_block(winner, joined_by::max);
  std::uint32_t const next = order_key(second);
  std::uint32_t const other = static_cast<std::uint32_t>(winner >> 32);
  ulonglong2 all{best, c.join_block(winner == best || winner == 0 || other < next ? next : other,
                                    joined_by::max)};
  if (!few) { all = c.team().two_largest(all); }
  auto const score_of = [](std::uint64_t key) {
    return from_order_key(static_cast<std::uint32_t>(key));
  };
  float const from = score_of(all.x >> 32) - race.margin;
  if (score_of(all.y) >= from) {
    winner = 0;
    each_over(from, [&](std::uint32_t token, float x, float) {
      std::uint64_t const mine = race.key(token, x);
      winner = mine > winner ? mine : winner;
    });
    all.x = c.largest(winner);
  }
  return static_cast<token_id>(~static_cast<std::uint32_t>(all.x));
}

}  // namespace tpx
