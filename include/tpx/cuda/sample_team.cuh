// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/memory.hpp>

#include <cuda_runtime.h>

namespace tpx::detail {

inline constexpr unsigned sample_threads = 512;
inline constexpr unsigned sample_warps = sample_threads / 32;
inline constexpr unsigned sample_buckets = sampler_memory::buckets;

struct take_sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct take_max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

template <class T, class Op>
__device__ T across_warp(T x, Op op) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    x = op(x, static_cast<T>(__shfl_xor_sync(~0u, x, lanes)));
  }
  return x;
}

/// What a block shares with the others of its cluster, and with itself.
struct alignas(16) sample_shared {
  std::uint64_t warp[2][sample_warps];
  std::uint64_t joined[2];
  std::uint32_t low[sample_buckets];  // this block's histogram
  std::uint32_t high[sample_buckets];
  std::uint64_t histogram[sample_buckets];  // the row's
  std::uint64_t above;
  std::uint32_t bucket;
  std::uint32_t collected;  // how many of these are there
  float logits[sample_threads];
  std::uint32_t tokens[sample_threads];
};

/// The blocks that work on one row: a cluster, whose shared memory they reach, or one block alone.
/// Everything here is called by all threads of all of them.
class sample_team {
 public:
  __device__ explicit sample_team(sample_shared& shared) : shared_{shared} {
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank_));
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size_));
#endif
  }

  [[nodiscard]] __device__ unsigned rank() const {
    return rank_;
  }
  [[nodiscard]] __device__ unsigned size() const {
    return size_;
  }
  [[nodiscard]] __device__ sample_shared& shared() const {
    return shared_;
  }

  __device__ void sync() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
  }

  /// Where another block has what is `mine` here, in shared memory.
  template <class T>
  [[nodiscard]] __device__ T* peer(T* mine, unsigned rank) const {
#if __CUDA_ARCH__ >= 900
    T* theirs;
    asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(mine), "r"(rank));
    return theirs;
#else
    return mine;
#endif
  }

  /// Joins what all threads have, for all of them; 0 is neutral.
  template <class Op>
  [[nodiscard]] __device__ std::uint64_t join(std::uint64_t x, Op op) {
    x = join_block(x, op);
    if (threadIdx.x == 0) { shared_.joined[turn_] = x; }
    sync();
    unsigned const lane = threadIdx.x % 32;
    return across_warp(lane < size_ ? *peer(&shared_.joined[turn_], lane) : std::uint64_t{0}, op);
  }

  /// The same among the threads of this block.
  template <class Op>
  [[nodiscard]] __device__ std::uint64_t join_block(std::uint64_t x, Op op) {
    turn_ ^= 1;  // who is late still reads the other one
    unsigned const lane = threadIdx.x % 32;
    x = across_warp(x, op);
    if (lane == 0) { shared_.warp[turn_][threadIdx.x / 32] = x; }
    __syncthreads();
    return across_warp(lane < sample_warps ? shared_.warp[turn_][lane] : std::uint64_t{0}, op);
  }

 private:
  sample_shared& shared_;
  unsigned rank_ = 0;
  unsigned size_ = 1;
  unsigned turn_ = 0;
};

/// A histogram of a row, of integers that many blocks add up. Unless `Wide`, no sum reaches 2^32.
template <bool Wide>
class row_histogram {
 public:
  __device__ explicit row_histogram(sample_team& team) : team_{team}, shared_{team.shared()} {}

  __device__ void clear() {
    for (unsigned b = threadIdx.x; b < sample_buckets; b += sample_threads) {
      shared_.low[b] = 0;
      shared_.high[b] = 0;
    }
    last_ = 0;
    sum_ = 0;
    __syncthreads();
  }

  /// Neighbours of one bucket are added up before they go to memory, where they would wait for each
  /// other.
  __device__ void add(std::uint32_t bucket, std::uint64_t weight) {
    if (bucket != last_) {
      flush();
      last_ = bucket;
    }
    sum_ += weight;
  }

  /// Adds up what all blocks have, and finds where the sum from bucket 0 on passes a limit, which
  /// limit_of(total) tells: the bucket, buckets if it does not, and the sum before it. `downwards`:
  /// from the last bucket on.
  struct place {
    std::uint32_t bucket;
    std::uint64_t above;
  };
  template <class F>
  [[nodiscard]] __device__ place find(F limit_of, bool downwards) {
    flush();
    team_.sync();
    gather();
    team_.sync();
    constexpr unsigned each = sample_buckets / sample_threads;
    std::uint64_t mine[each];
    std::uint64_t sum = 0;
    for (unsigned i = 0; i < each; ++i) {
      unsigned const b = threadIdx.x * each + i;
      mine[i] = shared_.histogram[downwards ? sample_buckets - 1 - b : b];
      sum += mine[i];
    }
    unsigned const lane = threadIdx.x % 32;
    std::uint64_t before = sum;  // with this thread's, of this warp
    for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
      std::uint64_t const other = __shfl_up_sync(~0u, before, lanes);
      if (lane >= lanes) { before += other; }
    }
    if (lane == 31) { shared_.warp[0][threadIdx.x / 32] = before; }
    if (threadIdx.x == 0) { shared_.bucket = sample_buckets; }
    __syncthreads();
    before -= sum;
    std::uint64_t total = 0;
    for (unsigned w = 0; w < sample_warps; ++w) {
      std::uint64_t const warp = shared_.warp[0][w];
      if (w < threadIdx.x / 32) { before += warp; }
      total += warp;
    }
    std::uint64_t const limit = limit_of(total);
    for (unsigned i = 0; i < each; ++i) {
      if (before <= limit && before + mine[i] > limit) {
        unsigned const b = threadIdx.x * each + i;
        shared_.bucket = downwards ? sample_buckets - 1 - b : b;
        shared_.above = before;
      }
      before += mine[i];
    }
    __syncthreads();
    return {shared_.bucket, shared_.above};
  }

 private:
  __device__ void flush() {
    if (sum_ == 0) { return; }
    auto const low = static_cast<std::uint32_t>(sum_);
    std::uint32_t const old = atomicAdd(&shared_.low[last_], low);
    if constexpr (Wide) {
      std::uint32_t const high =
        static_cast<std::uint32_t>(sum_ >> 32) + static_cast<std::uint32_t>(old + low < old);
      if (high != 0) { atomicAdd(&shared_.high[last_], high); }
    }
    sum_ = 0;
  }

  /// Each block adds up some buckets of all, and tells all of them.
  __device__ void gather() {
    unsigned const size = team_.size();
    unsigned const per = sample_buckets / size;
    unsigned const lanes = per < sample_threads ? sample_threads / per : 1;  // a bucket's
    unsigned const lane = threadIdx.x % lanes;
    for (unsigned b = threadIdx.x / lanes; b < per; b += sample_threads / lanes) {
      unsigned const bucket = team_.rank() * per + b;
      std::uint64_t sum = 0;
      for (unsigned r = lane; r < size; r += lanes) {
        sum += (std::uint64_t{*team_.peer(&shared_.high[bucket], r)} << 32) +
               *team_.peer(&shared_.low[bucket], r);
      }
      for (unsigned i = lanes / 2; i > 0; i /= 2) { sum += __shfl_xor_sync(~0u, sum, i); }
      for (unsigned r = lane; r < size; r += lanes) {
        *team_.peer(&shared_.histogram[bucket], r) = sum;
      }
    }
  }

  sample_team& team_;
  sample_shared& shared_;
  std::uint32_t last_ = 0;
  std::uint64_t sum_ = 0;
};

}  // namespace tpx::detail
