// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_candidates.cuh>
#include <tpx/generator/sample/select.hpp>

namespace tpx {
namespace detail {

/// `selection` on a GPU: a histogram over 1/32 nats says which bucket the limit falls into, and
/// more of 1024 buckets over the bits of the candidates in there say which of them.
template <class Order>
class cuda_selection {
  static_assert(Order::by_logit, "only orders by logit run on GPUs");

 public:
  __device__ explicit cuda_selection(cuda_candidates& from)
      : from_{from}, best_{from.best()}, histogram_{from.team()} {}

  [[nodiscard]] __device__ float end(std::uint64_t count) {
    return end_at([count](std::uint64_t) { return count - 1; });
  }
  [[nodiscard]] __device__ float end(double part) {
    return end_at([part](std::uint64_t total) {
      return static_cast<std::uint64_t>(part * static_cast<double>(total));
    });
  }

 private:
  template <class F>
  [[nodiscard]] __device__ float end_at(F limit_of) {
    if (from_.status() != sample_status::ok) { return no_logit; }
    histogram_.clear();
    from_.for_each([this](unsigned, float x) {
      if (x > no_logit) { histogram_.add(bucket(x), weight(x)); }
    });
    std::uint64_t limit = 0;
    auto const coarse = histogram_.find(
      [&](std::uint64_t total) {
        limit = limit_of(total);
        return limit;
      },
      false);
    if (coarse.bucket == sample_buckets) { return no_logit; }

    // All that is in the bucket, and a little more.
    float const upper = best_ - static_cast<float>(coarse.bucket) * 0x1p-5f;
    float const spare = (fabsf(best_) + fabsf(upper) + 1) * 0x1p-20f;
    std::uint32_t high = order_key(fminf(upper + spare, best_));
    std::uint32_t low =
      order_key(coarse.bucket + 1 == sample_buckets ? -0x1.fffffep127f : upper - 0x1p-5f - spare);
    std::uint64_t above = coarse.above;
    while (low != high) {
      constexpr int digit = 10;
      static_assert(1u << digit == sample_buckets);
      int const bits = 32 - __clz(static_cast<int>(high - low));
      int const shift = bits > digit ? bits - digit : 0;
      histogram_.clear();
      from_.for_each([&](unsigned, float x) {
        std::uint32_t const key = order_key(x);
        if (key >= low && key <= high && bucket(x) == coarse.bucket) {
          histogram_.add((key - low) >> shift, weight(x));
        }
      });
      auto const place = histogram_.find([&](std::uint64_t) { return limit - above; }, true);
      above += place.above;
      low += place.bucket << shift;
      std::uint32_t const last = low + ((1u << shift) - 1);
      high = last < high ? last : high;
    }
    float const at = from_order_key(low);
    if (Order::passes || above + fixed_of(mass_of(at, best_)) <= limit) { return at; }
    return from_order_key(low + 1);
  }

  [[nodiscard]] __device__ std::uint32_t bucket(float x) const {
    return static_cast<std::uint32_t>(
      fminf((best_ - x) * 32.0f, static_cast<float>(sample_buckets - 1)));
  }
  [[nodiscard]] __device__ std::uint64_t weight(float x) const {
    if constexpr (Order::counts) {
      return 1;
    } else {
      return fixed_of(mass_of(x, best_));
    }
  }

  cuda_candidates& from_;
  float best_;
  row_histogram histogram_;
};

}  // namespace detail

/// Where the first ones in an order end, to a limit that is a count or a part of the whole.
template <class Order, class Limit>
[[nodiscard]] __device__ float end_of(cuda_candidates& c, Order const&, Limit limit) {
  return detail::cuda_selection<Order>{c}.end(limit);
}

/// A draw from the softmax of the candidates, the same as the Cpu space's. First each block of 16
/// tokens tells what its best token can reach at most; then the blocks that can win are looked at.
[[nodiscard]] __device__ inline token_id draw_from(cuda_candidates& c) {
  using namespace detail;
  constexpr unsigned rows = chunk_rows;
  constexpr unsigned lanes = lane_count;
  float const best = c.best();
  race_noise const noise{c.seed(), c.step()};
  auto const score = [best](float x, double wait) {
    return static_cast<float>(static_cast<double>(x - best) - std::log(wait));
  };
  auto const place = [](unsigned block, unsigned row) {
    return block / lanes * static_cast<unsigned>(chunk_size) + row * lanes + block % lanes;
  };
  unsigned const first = c.part().begin / rows;
  unsigned const blocks = c.part().count / rows;
  float* const reach = c.part().reach;

  float bound = no_logit;  // what one of this block's tokens has for certain
  for (unsigned b = threadIdx.x; b < blocks; b += sample_threads) {
    float most = no_logit;
    for (unsigned r = 0; r < rows; ++r) {
      most = fmaxf(most, c.at(place(b, r ^ (threadIdx.x / lanes & 1))));  // of all banks
    }
    reach[b] = no_logit;
    if (!(most > no_logit)) { continue; }
    double const least = noise.least(first + b);
    reach[b] = score(most, least);
    float const x = c.at(place(b, noise.first_of(first + b)));
    if (x > no_logit) { bound = fmaxf(bound, score(x, least)); }
  }
  auto const floor = static_cast<std::uint32_t>(c.team().join_block(order_key(bound), take_max{}));
  if (threadIdx.x == 0) { c.team().shared().bucket = floor; }
  __syncthreads();
  bound = from_order_key(c.team().shared().bucket);

  std::uint64_t winner = 0;
  unsigned const row = threadIdx.x % rows;
  for (unsigned b = threadIdx.x / rows; b < blocks; b += sample_threads / rows) {
    if (!(reach[b] > no_logit) || reach[b] < bound) { continue; }
    unsigned const i = place(b, row);
    float const x = c.at(i);
    double const least = noise.least(first + b);
    if (!(x > no_logit) || score(x, least) < bound) { continue; }
    std::uint32_t const key = order_key(score(x, noise.of(first + b, row, least)));
    std::uint64_t const mine = std::uint64_t{key} << 32 | ~(c.part().begin + i);
    winner = mine > winner ? mine : winner;
  }
  return static_cast<token_id>(~static_cast<std::uint32_t>(c.largest(winner)));
}

}  // namespace tpx
