// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_candidates.cuh>
#include <tpx/cuda/sample_histogram.cuh>

namespace tpx::detail {

/// Where the weights of a row, the largest logits first, come to about so much: by a histogram over
/// 1/4 nats of a sample, a bucket a thread. `counts`: candidates weigh 1, not their probability.
class sampled_places {
 public:
  __device__ sampled_places(cuda_candidates& from, float best, bool counts) : best_{best} {
    sample_shared& shared = shared_of_block();
    unsigned const t = threadIdx.x;
    unsigned const size = team_size();
    unsigned const room = share_of(2 * sample_threads);
    sample_part const& part = from.part();
    shared.low[t] = 0;
    __syncthreads();
    auto const add = [&](float x, std::uint32_t stands_for) {
      if (!(x > no_logit)) { return; }
      auto const bucket = static_cast<unsigned>(fminf((best - x) * per_nat, buckets - 1));
      atomicAdd(&shared.low[bucket], stands_for);
    };
    float const most = from.seen(from.most());
    add(most, 1);  // for itself: few may have nearly all
    for (unsigned i = t * 4; i < part.count; i += every / 4 * part_stride) {
      unsigned const left = (part.count - i + part_stride - 1) / part_stride * 4;
      float const x = from.at(i);
      if (x < most) { add(x, left < every ? left : every); }
    }
    __syncthreads();
    auto* const mine = shared.found + team_rank() * room;
    if (t < buckets) { reinterpret_cast<std::uint32_t*>(mine)[t] = shared.low[t]; }
    __syncthreads();
    static_cast<void>(from.team().give(reinterpret_cast<ulonglong2*>(mine), buckets / 4, {0, 0}));
    float weight = 0;
    if (t < buckets) {
      for (unsigned r = 0; r < size; ++r) {
        weight +=
          static_cast<float>(reinterpret_cast<std::uint32_t const*>(shared.found + r * room)[t]);
      }
      if (!counts) { weight *= __expf((static_cast<float>(t) + 0.5f) * (-1 / per_nat)); }
    }
    // All that comes before a bucket, and with it.
    after_ = weight;
    TPX_UNROLL
    for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
      float const other = __shfl_up_sync(~0u, after_, lanes);
      if (t % 32 >= lanes) { after_ += other; }
    }
    auto* const sums = reinterpret_cast<float*>(shared.parts);
    if (t % 32 == 31) { sums[t / 32] = after_; }
    __syncthreads();
    for (unsigned w = 0; w < sample_warps; ++w) {
      if (w < t / 32) { after_ += sums[w]; }
      total_ += sums[w];
    }
    before_ = after_ - weight;
  }

  [[nodiscard]] __device__ float total() const { return total_; }

  /// Where they come to this; at most to infinity, and down to the lowest number.
  [[nodiscard]] __device__ float at(float weight) const {
    sample_shared& shared = shared_of_block();
    bool const much = weight >= total_;
    if (threadIdx.x == 0) { shared.bucket = __float_as_uint(much ? -0x1.fffffep127f : -no_logit); }
    __syncthreads();
    if (before_ <= weight && weight < after_) {
      float const into = (weight - before_) / (after_ - before_);
      shared.bucket =
        __float_as_uint(best_ - (static_cast<float>(threadIdx.x) + into) * (1 / per_nat));
    }
    __syncthreads();
    return __uint_as_float(shared.bucket);
  }

 private:
  static constexpr unsigned every = 32;  // tokens, one is looked at, and each thread's largest
  static constexpr unsigned buckets = 64;
  static constexpr float per_nat = 4;

  float best_;
  float before_ = 0;
  float after_ = 0;
  float total_ = 0;
};

/// How many tokens a limit is looked for among, about.
inline constexpr float most_found = 256;

/// What weights pass, and what comes before those among which they do.
struct weight_limit {
  std::uint64_t above;
  std::uint64_t limit;
};

/// Finds tokens among which weights pass the limit, one a thread, and `in.above` and `in.limit`:
/// a guess from a sample, one pass that weighs what is above it, one that lists what lies between
/// it and a better guess, and of that list what is near a third. False if the guesses were bad, or
/// if too many logits are equal. As `selection` of the Cpu space.
///
/// Source: Floyd and Rivest, Expected time bounds for selection (CACM 1975).
template <class Weight>
[[nodiscard]] __device__ __forceinline__ bool narrow_to_limit(cuda_candidates& c, float best,
                                                              bool counts,
                                                              sum_limit const& limit_of,
                                                              Weight weight, weight_limit& in,
                                                              collected_token& found) {
  sampled_places const places{c, best, counts};
  float const wanted = limit_of.part >= 0 ? static_cast<float>(limit_of.part) * places.total()
                                          : static_cast<float>(limit_of.number);
  float const guess = places.at(wanted);
  std::uint64_t sum = 0;
  std::uint64_t over = 0;
  c.for_each_four([&](auto... x) {
    fixed_parts four;
    fixed_parts four_over;
    auto const add = [&](float one) {
      fixed_parts const w = weight(one);
      four.add(w);
      if (one >= guess) { four_over.add(w); }
    };
    (add(x), ...);
    sum += four.all();
    over += four_over.all();
  });
  ulonglong2 const all = c.team().add_two({sum, over});
  in.limit = limit_of.of(all.x);
  if (in.limit >= all.x) { return false; }
  bool const under = all.y <= in.limit;
  float const off = places.total() *
                    static_cast<float>(static_cast<double>(in.limit) - static_cast<double>(all.y)) /
                    static_cast<float>(all.x);
  float const step = off + (under ? 1e-4f : -1e-4f) * places.total();

  sample_shared& shared = shared_of_block();
  sample_part const& part = c.part();
  std::uint32_t const room = part.count / static_cast<std::uint32_t>(chunk_rows);
  constexpr std::uint64_t too_many = std::uint64_t{1} << 40;
  float from = guess;
  float to = guess;
  std::uint32_t listed = 0;
  ulonglong2 list{};
  TPX_ROLLED
  for (float steps = 2;; steps *= 4) {
    float const far = places.at(wanted + steps * step);
    from = under ? fminf(far, guess) : guess;
    to = under ? guess : fmaxf(far, guess);
    c.start_collecting();
    c.for_each_four([&](auto... x) {
      auto const lists = [&](float one) { return one >= from && one < to; };
      unsigned const n = (0u + ... + (lists(x) ? 1u : 0u));
      if (n == 0) { return; }
      std::uint32_t i = atomicAdd(&shared.collected, n);
      auto const put = [&](float one) {
        if (lists(one) && i < room) { part.reach[i] = one; }
        i += lists(one) ? 1 : 0;
      };
      (put(x), ...);
    });
    __syncthreads();
    listed = shared.collected;
    sum = 0;
    for (std::uint32_t i = threadIdx.x; i < listed && i < room; i += sample_threads) {
      sum += weight(part.reach[i]).all();
    }
    std::uint64_t const mine = threadIdx.x != 0 ? 0 : listed > room ? too_many : listed;
    list = c.team().add_two({mine, sum});
    in.above = under ? all.y : all.y - list.y;
    if (list.x >= too_many) { return false; }
    if (in.above <= in.limit && in.above + list.y > in.limit) { break; }
    if (steps > 1000) { return false; }
  }

  if (static_cast<float>(list.x) > most_found) {
    float const wide = to - from;
    float const into = static_cast<float>(in.limit - in.above) / static_cast<float>(list.y);
    float const near = wide * (0.5f * most_found / static_cast<float>(list.x));
    float const middle = to - into * wide;
    from = fmaxf(from, middle - near);
    to = fminf(to, middle + near);
  }
  c.start_collecting();
  sum = 0;
  for (std::uint32_t i = threadIdx.x; i < listed; i += sample_threads) {
    float const x = part.reach[i];
    if (x >= to) {
      sum += weight(x).all();
    } else if (x >= from) {
      c.put_collected(x, 0);
    }
  }
  sum = c.join_block(sum, joined_by::sum);
  bool const fits = c.end_collecting(found, sum);
  in.above += sum;
  if (!fits) { return false; }
  float const x = threadIdx.x < found.count ? found.raw : no_logit;
  std::uint64_t const inside = c.join_block(x > no_logit ? weight(x).all() : 0, joined_by::sum);
  return in.above <= in.limit && in.above + inside > in.limit;
}

}  // namespace tpx::detail
