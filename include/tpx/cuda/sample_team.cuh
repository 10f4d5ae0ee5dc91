// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/memory.hpp>

#include <cuda_runtime.h>

// Each launch fetches its code anew, so that what several stages need is not in line: three loops
// and one barrier are faster than thirty loops unrolled.
namespace tpx::detail {

inline constexpr unsigned sample_threads = 512;
inline constexpr unsigned sample_warps = sample_threads / 32;

/// What a block shares with the others of its cluster, and with itself.
struct alignas(16) sample_shared {
  std::uint64_t warp[2][sample_warps];
  std::uint64_t joined[2][16];  // by block
  std::uint32_t counts[16];
  std::uint32_t low[sample_threads];  // this block's histogram
  std::uint32_t high[sample_threads];
  std::uint64_t parts[sample_threads];      // of a few buckets, all blocks'
  std::uint64_t histogram[sample_threads];  // the row's
  std::uint32_t tops[sample_warps];
  std::uint64_t above;
  std::uint64_t limit;
  std::uint32_t bucket;
  std::uint32_t collected;  // how many of these are there
  float logits[sample_threads];
  std::uint32_t tokens[sample_threads];
  float few_logits[sample_threads];  // all that is left, the same in all blocks
  std::uint32_t few_tokens[sample_threads];
};

/// This block's dynamic shared memory: `sample_shared`, then logits.
[[nodiscard]] __device__ inline std::byte* memory_of_block() {
  extern __shared__ __align__(16) std::byte sample_memory[];
  return sample_memory;
}
[[nodiscard]] __device__ inline sample_shared& shared_of_block() {
  return *reinterpret_cast<sample_shared*>(memory_of_block());
}

/// The blocks that work on one row: a cluster, whose shared memory they reach, or one block alone.
[[nodiscard]] __device__ inline unsigned team_rank() {
  unsigned rank = 0;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return rank;
}
[[nodiscard]] __device__ inline unsigned team_size() {
  unsigned size = 1;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
#endif
  return size;
}

/// All threads of the team have come, and see what each of them wrote.
__device__ inline void team_sync() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  __syncthreads();
#endif
}

/// The first: all blocks have begun, the last: nobody needs another's memory any more.
__device__ inline void team_meet() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

/// Where another block has what is `mine` here, in shared memory.
template <class T>
[[nodiscard]] __device__ T* peer(T* mine, unsigned rank) {
#if __CUDA_ARCH__ >= 900
  T* theirs;
  asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(mine), "r"(rank));
  return theirs;
#else
  static_cast<void>(rank);
  return mine;
#endif
}

/// Until then nothing that the kernels before this one wrote may be read.
__device__ inline void wait_for_launches_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// How values are joined; 0 is neutral.
enum class joined_by { sum, max };

[[nodiscard]] __device__ inline std::uint64_t join_warp(std::uint64_t x, joined_by how) {
  TPX_ROLLED
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    std::uint64_t const other = __shfl_xor_sync(~0u, x, lanes);
    x = how == joined_by::sum ? x + other : x < other ? other : x;
  }
  return x;
}

/// Joins what all threads of the block or, if `whole`, of the team have, for all of them. `turn`: 0
/// and 1 in turn, since who is late still reads the other one's.
__device__ __noinline__ inline std::uint64_t join_values(std::uint64_t x, joined_by how, bool whole,
                                                         unsigned turn) {
  sample_shared& shared = shared_of_block();
  unsigned const lane = threadIdx.x % 32;
  x = join_warp(x, how);
  if (lane == 0) { shared.warp[turn][threadIdx.x / 32] = x; }
  __syncthreads();
  x = join_warp(lane < sample_warps ? shared.warp[turn][lane] : 0, how);
  if (!whole) { return x; }
  // One warp tells all blocks: a word from each of many costs the network as much as many words.
  if (threadIdx.x < team_size()) { *peer(&shared.joined[turn][team_rank()], lane) = x; }
  team_sync();
  return join_warp(lane < team_size() ? shared.joined[turn][lane] : 0, how);
}

/// Takes turns.
class sample_team {
 public:
  [[nodiscard]] __device__ std::uint64_t join(std::uint64_t x, joined_by how, bool whole = true) {
    turn_ ^= 1;
    return join_values(x, how, whole, turn_);
  }

 private:
  unsigned turn_ = 0;
};

}  // namespace tpx::detail
