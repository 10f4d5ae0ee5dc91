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
  using histogram = row_histogram<!Order::counts>;

 public:
  __device__ cuda_selection(cuda_candidates& from, Order const& order)
      : from_{from},
        order_{order},
        best_{from.best()},
        first_{Order::by_logit ? best_ : 0.0f},
        histogram_{from.team()} {}

  [[nodiscard]] __device__ float end(std::uint64_t count) {
    return end_at([count](std::uint64_t) { return count - 1; });
  }
  [[nodiscard]] __device__ float end(double part) {
    return end_at([part](std::uint64_t total) {
      auto const most = static_cast<std::uint64_t>(part * static_cast<double>(total));
      return Order::passes && most > 0 ? most - 1 : most;
    });
  }

 private:
  template <class F>
  [[nodiscard]] __device__ float end_at(F limit_of) {
    if (from_.status() != sample_status::ok) { return no_logit; }
    if (from_.are_few()) { return among_few(limit_of); }
    histogram_.clear();
    from_.for_each([this](std::uint32_t, float x) {
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
    if (Order::counts && limit < sample_threads) {
      from_.narrow([&](float x) { return x > no_logit && bucket(x) <= coarse.bucket; });
      if (from_.are_few()) { return among_few(limit_of); }
    }
    few_tokens found;
    if (from_.collect([&](float x) { return x > no_logit && bucket(x) == coarse.bucket; }, found)) {
      float const x = threadIdx.x < found.count ? found.raw * from_.scale() : no_logit;
      return among(x, found.count, limit, coarse.above);
    }
    return among_many(coarse, limit);
  }

  /// Where each thread has a candidate at most.
  template <class F>
  [[nodiscard]] __device__ float among_few(F limit_of) {
    auto const& few = from_.few();
    float x = no_logit;
    from_.for_each([&x](std::uint32_t, float logit) { x = logit; });
    std::uint64_t const mine = x > no_logit ? weight(x) : 0;
    return among(x, few.count, limit_of(from_.join(mine, take_sum{})), 0);
  }

  /// The same, of what lies under `above` and no further than the limit: every thread compares its
  /// own with all.
  [[nodiscard]] __device__ float among(float x, unsigned count, std::uint64_t limit,
                                       std::uint64_t above) {
    auto& shared = from_.team().shared();
    std::uint32_t const key = x > no_logit ? order_key(order_.order(x)) : 0;
    shared.low[threadIdx.x] = key;
    shared.histogram[threadIdx.x] = key != 0 ? weight(x) : 0;
    if (threadIdx.x == 0) { shared.bucket = 0; }
    __syncthreads();
    if (key != 0) {
      std::uint64_t over = above;
      std::uint64_t equal = 0;
      for (unsigned i = 0; i < count; ++i) {
        std::uint32_t const other = shared.low[i];
        std::uint64_t const weight = shared.histogram[i];
        over += other > key ? weight : 0;
        equal += other == key ? weight : 0;
      }
      if (over <= limit && over + equal > limit) {
        shared.bucket = key;
        shared.above = over;
      }
    }
    __syncthreads();
    std::uint32_t const found = shared.bucket;
    return found == 0 ? no_logit : finish(found, shared.above, limit);
  }

  /// By the bits of what is in a bucket.
  [[nodiscard]] __device__ float among_many(typename histogram::place const& coarse,
                                            std::uint64_t limit) {
    float const upper = first_ - static_cast<float>(coarse.bucket) * 0x1p-5f;
    float const spare = (fabsf(first_) + fabsf(upper) + 1) * 0x1p-20f;
    bool const last = coarse.bucket + 1 == sample_buckets;
    std::uint32_t high = order_key(fminf(upper + spare, first_));
    std::uint32_t low = order_key(last ? -0x1.fffffep127f : upper - 0x1p-5f - spare);
    std::uint64_t above = coarse.above;
    while (low != high) {
      constexpr int digit = 10;
      static_assert(1u << digit == sample_buckets);
      int const bits = 32 - __clz(static_cast<int>(high - low));
      int const shift = bits > digit ? bits - digit : 0;
      histogram_.clear();
      from_.for_each([&](std::uint32_t, float x) {
        std::uint32_t const key = order_key(order_.order(x));
        if (x > no_logit && key >= low && key <= high && bucket(x) == coarse.bucket) {
          histogram_.add((key - low) >> shift, weight(x));
        }
      });
      auto const place = histogram_.find([&](std::uint64_t) { return limit - above; }, true);
      above += place.above;
      low += place.bucket << shift;
      std::uint32_t const end = low + ((1u << shift) - 1);
      high = end < high ? end : high;
    }
    return finish(low, above, limit);
  }

  [[nodiscard]] __device__ float finish(std::uint32_t key, std::uint64_t above,
                                        std::uint64_t limit) const {
    float const at = from_order_key(key);
    if (Order::passes || above + fixed_of(mass_of(at, best_)) <= limit) { return at; }
    return from_order_key(key + 1);
  }

  [[nodiscard]] __device__ std::uint32_t bucket(float x) const {
    return static_cast<std::uint32_t>(
      fminf((first_ - order_.order(x)) * 32.0f, static_cast<float>(sample_buckets - 1)));
  }
  [[nodiscard]] __device__ std::uint64_t weight(float x) const {
    if constexpr (Order::counts) {
      return 1;
    } else {
      return fixed_of(mass_of(x, best_));
    }
  }

  cuda_candidates& from_;
  Order order_;
  float best_;
  float first_;
  histogram histogram_;
};

}  // namespace detail

/// Where the first ones in an order end, to a limit that is a count or a part of the whole.
template <class Order, class Limit>
[[nodiscard]] __device__ float end_of(cuda_candidates& c, Order const& order, Limit limit) {
  return detail::cuda_selection<Order>{c, order}.end(limit);
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
  if (c.are_few()) {
    std::uint64_t mine = 0;
    c.for_each([&](std::uint32_t token, float x) {
      if (!(x > no_logit)) { return; }
      std::uint32_t const block = token / chunk_size * lanes + token % lanes;
      double const wait = noise.of(block, token % chunk_size / lanes, noise.least(block));
      mine = std::uint64_t{order_key(score(x, wait))} << 32 | ~token;
    });
    return static_cast<token_id>(~static_cast<std::uint32_t>(c.largest(mine)));
  }
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
  bound =
    from_order_key(static_cast<std::uint32_t>(c.team().join_block(order_key(bound), take_max{})));

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
