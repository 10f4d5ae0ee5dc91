// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_team.cuh>

namespace tpx::detail {

/// Where sums are to end: at a part of the whole if part >= 0, else at a number. `reach`: what
/// comes to exactly that is enough.
struct sum_limit {
  double part;
  std::uint64_t number;
  bool reach;

  [[nodiscard]] __device__ std::uint64_t of(std::uint64_t total) const {
    std::uint64_t const most =
      part >= 0 ? static_cast<std::uint64_t>(part * static_cast<double>(total)) : number;
    return reach && most > 0 ? most - 1 : most;
  }
};

/// Adds up the histograms of the team's blocks, a bucket a thread, and finds where the sum from
/// bucket 0 on or, if `downwards`, from the last one passes the limit. For all to read:
/// shared.limit; the bucket, sample_threads if none is, in shared.bucket; and the sum before it in
/// shared.above.
__device__ __noinline__ inline void find_in_histogram(sum_limit limit_of, bool downwards) {
  sample_shared& shared = shared_of_block();
  unsigned const size = team_size();
  unsigned const t = threadIdx.x;
  team_sync();
  // Each block adds up its share of the buckets and tells all; neighbours ask one block.
  unsigned const share = sample_threads / size;
  unsigned const other = t / share;
  unsigned const mine = team_rank() * share + t % share;
  shared.parts[t] = (std::uint64_t{*cluster::there(&shared.high[mine], other)} << 32) +
                    *cluster::there(&shared.low[mine], other);
  __syncthreads();
  std::uint64_t sum = 0;
#pragma unroll 4
  for (unsigned i = t % share; i < sample_threads; i += share) { sum += shared.parts[i]; }
  *cluster::there(&shared.histogram[mine], other) = sum;
  if (t == 0) { shared.bucket = sample_threads; }
  team_sync();

  unsigned const bucket = downwards ? sample_threads - 1 - t : t;
  std::uint64_t const here = shared.histogram[bucket];
  std::uint64_t before = here;
  TPX_ROLLED
  for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
    std::uint64_t const other = __shfl_up_sync(~0u, before, lanes);
    if (t % 32 >= lanes) { before += other; }
  }
  if (t % 32 == 31) { shared.warp[0][t / 32] = before; }
  __syncthreads();
  before -= here;
  std::uint64_t total = 0;
  TPX_ROLLED
  for (unsigned w = 0; w < sample_warps; ++w) {
    std::uint64_t const warp = shared.warp[0][w];
    if (w < t / 32) { before += warp; }
    total += warp;
  }
  std::uint64_t const limit = limit_of.of(total);
  if (t == 0) { shared.limit = limit; }
  if (before <= limit && before + here > limit) {
    shared.bucket = bucket;
    shared.above = before;
  }
  __syncthreads();
}

/// A histogram of a row, to which all threads of the team add.
class row_histogram {
 public:
  __device__ row_histogram() : shared_{shared_of_block()} {
    shared_.low[threadIdx.x] = 0;
    shared_.high[threadIdx.x] = 0;
    __syncthreads();
  }

  /// Neighbours of one bucket are added up before they go to memory, where they would wait for each
  /// other.
  __device__ void add(std::uint32_t bucket, std::uint64_t weight) {
    if (bucket != last_) {
      flush();
      last_ = bucket;
      sum_ = 0;
    }
    sum_ += weight;
  }

  __device__ void count(std::uint32_t bucket) { atomicAdd(&shared_.low[bucket], 1u); }

  __device__ void find(sum_limit limit, bool downwards) {
    flush();
    find_in_histogram(limit, downwards);
  }

 private:
  __device__ void flush() {
    auto const low = static_cast<std::uint32_t>(sum_);
    auto high = static_cast<std::uint32_t>(sum_ >> 32);
    if (low != 0) {
      std::uint32_t const old = atomicAdd(&shared_.low[last_], low);
      high += old + low < old ? 1 : 0;
    }
    if (high != 0) { atomicAdd(&shared_.high[last_], high); }
  }

  sample_shared& shared_;
  std::uint32_t last_ = 0;
  std::uint64_t sum_ = 0;
};

}  // namespace tpx::detail
