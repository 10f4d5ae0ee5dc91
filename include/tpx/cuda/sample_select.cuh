// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_candidates.cuh>
#include <tpx/cuda/sample_histogram.cuh>
#include <tpx/cuda/sample_stretch.cuh>
#include <tpx/generator/sample/select.hpp>

namespace tpx {
namespace detail {

/// `largest_first`, `likeliest_first` or `nearest_first`: known at run time, so that all stages use
/// one function.
struct cuda_order {
  bool counts;
  bool by_logit;
  bool passes;
  float center;

  __device__ explicit cuda_order(largest_first) : cuda_order{true, true, true, 0} {}
  __device__ explicit cuda_order(likeliest_first) : cuda_order{false, true, false, 0} {}
  __device__ explicit cuda_order(nearest_first o) : cuda_order{false, false, true, o.center} {}

  [[nodiscard]] __device__ float place(float x) const { return by_logit ? x : -fabsf(x - center); }

 private:
  __device__ cuda_order(bool count, bool logit, bool pass, float middle)
      : counts{count}, by_logit{logit}, passes{pass}, center{middle} {}
};

/// `selection` on a GPU: of few candidates each thread compares one with all. Many are narrowed to
/// few around the limit; where that fails, or they are ordered by something else than the logit, a
/// histogram over 1/16 nats says which bucket the limit falls into, and histograms over the bits of
/// what is in there which it is.
class cuda_selection {
 public:
  __device__ cuda_selection(cuda_candidates& from, cuda_order const& order)
      : from_{from}, order_{order}, best_{from.best()}, first_{order.by_logit ? best_ : 0.0f} {}

  [[nodiscard]] __device__ float end(sum_limit const& limit) {
    if (from_.status() != sample_status::ok) { return no_logit; }
    sample_shared const& shared = shared_of_block();
    bool const narrows = order_.counts && limit.number < sample_threads;
    if (!from_.are_few() && !(narrows && narrow_to_largest(limit.number))) {
      weight_limit around;
      collected_token near;
      if (order_.by_logit && narrow_to_limit(
                               from_, best_, order_.counts, limit,
                               [self = *this](float x) { return self.parts(x); }, around, near)) {
        float const x = threadIdx.x < near.count ? near.raw : no_logit;
        return among(x, near.count, around.limit, around.above);
      }
      row_histogram histogram;
      from_.for_each([&, self = *this](std::uint32_t, float x) {
        if (!(x > no_logit)) { return; }
        if (self.order_.counts) {
          histogram.count(self.bucket(x));
        } else {
          histogram.add(self.bucket(x), self.weight(x));
        }
      });
      histogram.find(limit, false);
      std::uint32_t const in = shared.bucket;
      if (in == sample_threads) { return no_logit; }
      std::uint64_t const number = shared.limit;
      std::uint64_t const above = shared.above;
      collected_token found;
      bool const few = from_.collect(
        true, [&, self = *this](float x) { return x > no_logit && self.bucket(x) == in; }, found);
      if (!few) { return among_many(in, number, above); }
      float const x = threadIdx.x < found.count ? found.raw * from_.scale() : no_logit;
      return among(x, found.count, number, above);
    }
    unsigned const count = from_.part().count;
    float const x = threadIdx.x < count ? from_.at(threadIdx.x) : no_logit;
    std::uint64_t const total =
      limit.part < 0 ? 0 : from_.join(x > no_logit ? weight(x) : 0, joined_by::sum);
    return among(x, count, limit.of(total), 0);
  }

 private:
  /// Leaves those alone that may be among the `count` largest, if they are few. As large as the
  /// `count`-th largest of 512 groups' largest are at least so many.
  [[nodiscard]] __device__ bool narrow_to_largest(std::uint64_t count) const {
    if (count == 0) { return false; }
    sample_shared& shared = shared_of_block();
    unsigned const t = threadIdx.x;
    unsigned const size = team_size();
    unsigned const groups = share_of(sample_threads);  // of a block, `size` threads each
    float const most = from_.seen(from_.most());
    float top = most;
    TPX_ROLLED
    for (unsigned lanes = size / 2; lanes > 0; lanes /= 2) {
      top = fmaxf(top, __shfl_xor_sync(~0u, top, static_cast<int>(lanes)));
    }
    auto* const mine = shared.tops + team_rank() * groups;
    if ((t & (size - 1)) == 0) { mine[share_of(t)] = top; }
    __syncthreads();
    static_cast<void>(from_.team().give(reinterpret_cast<ulonglong2*>(mine), groups / 4, {0, 0}));
    top = shared.tops[t];
    // Halves, until about so many pass: that a few more do does no harm.
    auto const wanted = static_cast<int>(count);
    std::uint64_t const lowest =
      from_.join_block(top > no_logit ? std::uint32_t{~order_key(top)} : 0, joined_by::max);
    float least = from_order_key(~static_cast<std::uint32_t>(lowest));
    if (__syncthreads_count(top >= least ? 1 : 0) < wanted) {
      least = -0x1.fffffep127f;
    } else {
      float over = best_;
      while (true) {
        float const middle = least + (over - least) * 0.5f;
        if (!(middle > least && middle < over)) { break; }
        int const passing = __syncthreads_count(top >= middle ? 1 : 0);
        (passing >= wanted ? least : over) = middle;
        if (passing >= wanted && passing <= wanted + wanted / 8) { break; }
      }
    }
    collected_token found;
    if (!from_.collect(
          most >= least, [&](float x) { return x > no_logit && x >= least; }, found)) {
      return false;
    }
    from_.narrow(found);
    return true;
  }

  /// Where each thread has one at most: the end of what lies under `above`.
  [[nodiscard]] __device__ float among(float x, unsigned count, std::uint64_t limit,
                                       std::uint64_t above) const {
    sample_shared& shared = shared_of_block();
    unsigned const t = threadIdx.x;
    std::uint32_t const key = x > no_logit ? order_key(order_.place(x)) : 0;
    std::uint64_t const mine = key != 0 ? weight(x) : 0;
    std::uint32_t low = 0;
    std::uint32_t high = ~0u;
    unsigned at = t;
    __syncthreads();    // what was found last has been read
    if (count > few) {  // halves, until few are left
      low = ~static_cast<std::uint32_t>(
        from_.join_block(key != 0 ? std::uint32_t{~key} : 0, joined_by::max));
      high = static_cast<std::uint32_t>(from_.join_block(key, joined_by::max));
      while (low < high && count > few) {
        std::uint32_t const middle = low + (high - low) / 2 + 1;
        bool const upper = key >= middle && key <= high;
        std::uint64_t const sum = from_.join_block(upper ? mine : 0, joined_by::sum);
        bool const passes = above + sum > limit;
        above += passes ? 0 : sum;
        (passes ? low : high) = passes ? middle : middle - 1;
        count = static_cast<unsigned>(__syncthreads_count(key >= low && key <= high ? 1 : 0));
      }
      if (low >= high) {  // all of them are equal
        std::uint64_t const sum = from_.join_block(key == low ? mine : 0, joined_by::sum);
        return passes_at(above, sum, limit) ? finish(low, above, limit) : no_logit;
      }
      if (t == 0) { shared.collected = 0; }
      __syncthreads();
      at = key >= low && key <= high ? atomicAdd(&shared.collected, 1u) : sample_threads;
    }
    if (at < count) {
      shared.low[at] = key;
      shared.histogram[at] = mine;
    }
    if (t == 0) { shared.bucket = 0; }
    __syncthreads();
    // Each warp compares some with all.
    static_assert(few == 64);
    unsigned const lane = t % 32;
    std::uint32_t const first = lane < count ? shared.low[lane] : 0;
    std::uint32_t const second = lane + 32 < count ? shared.low[lane + 32] : 0;
    std::uint64_t const first_weight = lane < count ? shared.histogram[lane] : 0;
    std::uint64_t const second_weight = lane + 32 < count ? shared.histogram[lane + 32] : 0;
    for (unsigned i = t / 32; i < count; i += sample_warps) {
      std::uint32_t const it = shared.low[i];
      std::uint64_t const over =
        above + join_warp((first > it ? first_weight : 0) + (second > it ? second_weight : 0),
                          joined_by::sum);
      std::uint64_t const equal = join_warp(
        (first == it ? first_weight : 0) + (second == it ? second_weight : 0), joined_by::sum);
      if (it != 0 && lane == 0 && passes_at(over, equal, limit)) {
        shared.bucket = it;
        shared.above = over;
      }
    }
    __syncthreads();
    std::uint32_t const found = shared.bucket;
    return found == 0 ? no_logit : finish(found, shared.above, limit);
  }

  /// Whether weights pass the limit with a key's, which are `equal`, after the larger ones'.
  [[nodiscard]] __device__ static bool passes_at(std::uint64_t over, std::uint64_t equal,
                                                 std::uint64_t limit) {
    return over <= limit && over + equal > limit;
  }

  /// By the bits of what is in a bucket.
  [[nodiscard]] __device__ float among_many(std::uint32_t in, std::uint64_t limit,
                                            std::uint64_t above) const {
    constexpr int digit = 9;
    static_assert(1u << digit == sample_threads);
    sample_shared const& shared = shared_of_block();
    float const upper = first_ - static_cast<float>(in) / per_nat;
    float const spare = (fabsf(first_) + fabsf(upper) + 1) * 0x1p-20f;
    std::uint32_t high = order_key(fminf(upper + spare, first_));
    std::uint32_t low =
      order_key(in + 1 == sample_threads ? -0x1.fffffep127f : upper - 1 / per_nat - spare);
    while (low != high) {
      int const bits = 32 - __clz(static_cast<int>(high - low));
      int const shift = bits > digit ? bits - digit : 0;
      row_histogram histogram;
      from_.for_each([&, self = *this](std::uint32_t, float x) {
        std::uint32_t const key = order_key(self.order_.place(x));
        if (x > no_logit && key >= low && key <= high && self.bucket(x) == in) {
          histogram.add((key - low) >> shift, self.weight(x));
        }
      });
      histogram.find({-1, limit - above, false}, true);
      above += shared.above;
      low += shared.bucket << shift;
      std::uint32_t const end = low + ((1u << shift) - 1);
      high = end < high ? end : high;
    }
    return finish(low, above, limit);
  }

  [[nodiscard]] __device__ float finish(std::uint32_t key, std::uint64_t above,
                                        std::uint64_t limit) const {
    float const at = from_order_key(key);
    if (order_.passes || above + weight(at) <= limit) { return at; }
    return from_order_key(key + 1);
  }

  [[nodiscard]] __device__ std::uint32_t bucket(float x) const {
    return static_cast<std::uint32_t>(
      fminf((first_ - order_.place(x)) * per_nat, static_cast<float>(sample_threads - 1)));
  }
  [[nodiscard]] __device__ fixed_parts parts(float x) const {
    return order_.counts ? fixed_parts{0, x > no_logit ? 1u : 0u} : mass_parts(x, best_);
  }
  [[nodiscard]] __device__ std::uint64_t weight(float x) const { return parts(x).all(); }

  static constexpr float per_nat = 16;  // buckets
  static constexpr unsigned few = 64;

  cuda_candidates& from_;
  cuda_order order_;
  float best_;
  float first_;
};

}  // namespace detail

/// Where the first ones in an order end, to a limit that is a count or a part of the whole.
template <class Order>
[[nodiscard]] __device__ float end_of(cuda_candidates& c, Order const& order, std::uint64_t count) {
  return detail::cuda_selection{c, detail::cuda_order{order}}.end({-1, count, true});
}
template <class Order>
[[nodiscard]] __device__ float end_of(cuda_candidates& c, Order const& order, double part) {
  return detail::cuda_selection{c, detail::cuda_order{order}}.end({part, 0, Order::passes});
}

}  // namespace tpx
