// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_candidates.cuh>
#include <tpx/cuda/sample_request.cuh>

namespace tpx::detail {

/// Writes the `count` likeliest candidates, likeliest first, of equal ones the lower token; -1
/// where there are fewer. A round for each: who had the last one looks for its next.
__device__ __noinline__ inline void write_likeliest(cuda_candidates& c, token_logprob* to,
                                                    std::uint32_t count) {
  float const best = c.best();
  double const log_total = c.log_total();
  auto const below = [&c](std::uint64_t last) {
    std::uint64_t most = 0;
    c.for_each([&](std::uint32_t token, float x) {
      std::uint64_t const key = std::uint64_t{order_key(x)} << 32 | ~token;
      if (x > no_logit && key < last && key > most) { most = key; }
    });
    return most;
  };
  std::uint64_t mine = below(~std::uint64_t{0});
  TPX_ROLLED
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint64_t const next = c.largest(mine);
    if (mine == next) { mine = below(next); }
    if (team_rank() != 0 || threadIdx.x != 0) { continue; }
    float const depth = from_order_key(static_cast<std::uint32_t>(next >> 32)) - best;
    to[i] = {-1, 0};
    if (next != 0) {
      to[i] = {static_cast<token_id>(~static_cast<std::uint32_t>(next)),
               static_cast<float>(static_cast<double>(depth) - log_total)};
    }
  }
}

/// What a row is asked of its model's own logits, before mask and stages. `part` is overwritten.
template <class T>
__device__ __noinline__ void look_at_raw(sample_team& team, logits_view<T> row,
                                         sample_part const& part, bool logprobs, token_logprob* top,
                                         std::uint32_t count, cuda_sampled& result) {
  row.mask = nullptr;
  row.end = row.there;
  __syncthreads();
  part_taker<T> taker{row.logits, row.there, part};
  cuda_candidates raw{part, taker.take(row), 0, 0};
  raw.team() = team;
  __syncthreads();
  float const best = raw.best();
  result.status = raw.status();
  if (result.status != sample_status::ok) { return; }
  if (logprobs) {
    float const logit = raw.logit(result.token);
    double const log_total = raw.log_total();
    result.raw_logprob = static_cast<float>(static_cast<double>(logit - best) - log_total);
    result.rank = static_cast<std::uint32_t>(raw.count_over(logit)) + 1;
  }
  if (count > 0) { write_likeliest(raw, top, count); }
}

}  // namespace tpx::detail
