// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_candidates.cuh>
#include <tpx/cuda/sample_histogram.cuh>

namespace tpx::detail {

/// Where the weights of a row, the largest logits first, come to about so much: by a histogram over
/// 1/16 nats of a sample, a bucket a thread. `counts`: candidates weigh 1, not their probability.
class sampled_places {
 public:
  __device__ sampled_places(cuda_candidates& from, float best, bool counts) : best_{best} {
    sample_shared& shared = shared_of_block();
    unsigned const t = threadIdx.x;
    unsigned const size = team_size();
    unsigned const room = 2 * sample_threads / size;
    sample_part const& part = from.part();
    shared.low[t] = 0;
    __syncthreads();
    for (unsigned i = t * 4; i < part.count; i += every / 4 * part_stride) {
      float const x = from.at(i);
      if (!(x > no_logit)) { continue; }
      atomicAdd(&shared.low[static_cast<unsigned>(fminf((best - x) * per_nat, buckets - 1))], 1u);
    }
    __syncthreads();
    auto* const mine = shared.found + team_rank() * room;
    if (t < buckets / 2) {
      reinterpret_cast<std::uint32_t*>(mine)[t] = shared.low[2 * t] | shared.low[2 * t + 1] << 16;
    }
    __syncthreads();
    static_cast<void>(from.team().give(reinterpret_cast<ulonglong2*>(mine), buckets / 8, {0, 0}));
    float weight = 0;
    if (t < buckets) {
      for (unsigned r = 0; r < size; ++r) {
        weight += reinterpret_cast<std::uint16_t const*>(shared.found + r * room)[t];
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

  static constexpr unsigned every = 32;  // tokens, one is looked at

 private:
  static constexpr unsigned buckets = 256;
  static constexpr float per_nat = 16;

  float best_;
  float before_ = 0;
  float after_ = 0;
  float total_ = 0;
};

/// How many tokens a limit is looked for among, about.
inline constexpr float most_found = 256;

/// A stretch of the logits, from `from` up to `to`, without it, in which weights pass a limit.
struct weight_stretch {
  float from;
  float to;
  std::uint64_t above;   // of what is not under `to`
  std::uint64_t weight;  // of what is in it
  std::uint64_t limit;
};

/// Finds tokens among which weights pass the limit, one a thread, and `in.above` and `in.limit`:
/// a guess from a sample, one pass that weighs what is above it, one that lists what lies between
/// it and a better guess, and of that list what is near a third. False if the guesses were bad, or
/// if too many logits are equal. As `selection` of the Cpu space.
///
/// Source: Floyd and Rivest, Expected time bounds for selection (CACM 1975).
template <class Weight>
[[nodiscard]] __device__ bool narrow_to_limit(cuda_candidates& from, float best, bool counts,
                                              sum_limit const& limit_of, Weight weight,
                                              weight_stretch& in, collected_token& found) {
  sampled_places const places{from, best, counts};
  float const wanted = limit_of.part >= 0
                         ? static_cast<float>(limit_of.part) * places.total()
                         : static_cast<float>(limit_of.number) * (1.0f / sampled_places::every);
  float const guess = places.at(wanted);
  std::uint64_t sum = 0;
  std::uint64_t over = 0;
  from.for_each([&](std::uint32_t, float x) {
    std::uint64_t const w = weight(x);
    sum += w;
    over += x >= guess ? w : 0;
  });
  ulonglong2 const all = from.team().add_two({sum, over});
  in.limit = limit_of.of(all.x);
  if (in.limit >= all.x) { return false; }
  bool const under = all.y <= in.limit;
  float const off = static_cast<float>(static_cast<double>(in.limit) - static_cast<double>(all.y)) /
                    static_cast<float>(all.x);
  float const far = places.at(wanted + places.total() * (2 * off + (under ? 2e-4f : -2e-4f)));
  in.from = under ? fminf(far, guess) : guess;
  in.to = under ? guess : fmaxf(far, guess);

  sample_shared& shared = shared_of_block();
  sample_part const& part = from.part();
  std::uint32_t const room = part.count / static_cast<std::uint32_t>(chunk_rows);
  if (threadIdx.x == 0) { shared.collected = 0; }
  __syncthreads();
  sum = 0;
  from.for_each([&](std::uint32_t, float x) {
    if (!(x >= in.from && x < in.to)) { return; }
    std::uint32_t const i = atomicAdd(&shared.collected, 1u);
    if (i < room) { part.reach[i] = x; }
    sum += weight(x);
  });
  __syncthreads();
  constexpr std::uint64_t too_many = std::uint64_t{1} << 40;
  std::uint32_t const listed = shared.collected;
  std::uint64_t const mine = threadIdx.x != 0 ? 0 : listed > room ? too_many : listed;
  ulonglong2 const list = from.team().add_two({mine, sum});
  in.above = under ? all.y : all.y - list.y;
  in.weight = list.y;
  if (list.x >= too_many || in.above > in.limit || in.above + in.weight <= in.limit) {
    return false;
  }

  if (static_cast<float>(list.x) > most_found) {
    float const wide = in.to - in.from;
    float const into = static_cast<float>(in.limit - in.above) / static_cast<float>(in.weight);
    float const near = wide * (0.5f * most_found / static_cast<float>(list.x));
    float const middle = in.to - into * wide;
    in.from = fmaxf(in.from, middle - near);
    in.to = fminf(in.to, middle + near);
  }
  from.start_collecting();
  sum = 0;
  for (std::uint32_t i = threadIdx.x; i < listed; i += sample_threads) {
    float const x = part.reach[i];
    if (x >= in.to) {
      sum += weight(x);
    } else if (x >= in.from) {
      from.put_collected(x, 0);
    }
  }
  sum = from.join_block(sum, joined_by::sum);
  bool const fits = from.end_collecting(found, sum);
  in.above += sum;
  if (!fits) { return false; }
  float const x = threadIdx.x < found.count ? found.raw : no_logit;
  std::uint64_t const inside = from.join_block(x > no_logit ? weight(x) : 0, joined_by::sum);
  return in.above <= in.limit && in.above + inside > in.limit;
}

}  // namespace tpx::detail
