// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/memory.hpp>

#include <cuda_runtime.h>

namespace tpx::detail {

inline constexpr unsigned sample_threads = 512;
inline constexpr unsigned sample_warps = sample_threads / 32;

/// What a block shares with the others of its cluster, and with itself.
struct alignas(16) sample_shared {
  ulonglong2 joined[2][16];  // by block
  float tops[sample_threads];
  std::uint32_t low[sample_threads];  // this block's histogram
  std::uint32_t high[sample_threads];
  std::uint64_t parts[sample_threads];      // of a few buckets, all blocks'
  std::uint64_t histogram[sample_threads];  // the row's
  uint2 found[2 * sample_threads];          // logits and tokens, all blocks'
  float few_logits[sample_threads];         // all that is left, the same in all blocks
  std::uint32_t few_tokens[sample_threads];
  std::uint64_t warp[2][sample_warps];
  std::uint64_t arrived[2];  // mbarriers: what others tell is there
  std::uint64_t above;
  std::uint64_t limit;
  std::uint32_t bucket;
  std::uint32_t collected;  // how many this block has
};

/// This block's dynamic shared memory: `sample_shared`, then logits.
[[nodiscard]] __device__ inline std::byte* memory_of_block() {
  extern __shared__ __align__(16) std::byte sample_memory[];
  return sample_memory;
}
[[nodiscard]] __device__ inline sample_shared& shared_of_block() {
  return *reinterpret_cast<sample_shared*>(memory_of_block());
}

[[nodiscard]] __device__ inline std::uint32_t shared_address(void const* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
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

/// What each block has of so many: both are powers of two.
[[nodiscard]] __device__ inline unsigned share_of(unsigned all) {
  return all >> (31 - __clz(static_cast<int>(team_size())));
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

/// Before anything is told: `team_begin` says that this block is there, `team_meet` waits for all.
__device__ inline void team_begin() {
#if __CUDA_ARCH__ >= 900
  if (threadIdx.x == 0) {
    for (std::uint64_t& barrier : shared_of_block().arrived) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&barrier)));
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}
__device__ inline void team_meet() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait;" ::: "memory");
#endif
  __syncthreads();
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
/// The next kernel may begin, and wait.
__device__ inline void let_next_launch_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// How values are joined; 0 is neutral.
enum class joined_by { sum, max };

[[nodiscard]] __device__ __forceinline__ std::uint64_t join_warp(std::uint64_t x, joined_by how) {
  auto const high = static_cast<std::uint32_t>(x >> 32);
  auto const low = static_cast<std::uint32_t>(x);
  if (how == joined_by::max) {
    std::uint32_t const most = __reduce_max_sync(~0u, high);
    return std::uint64_t{most} << 32 | __reduce_max_sync(~0u, high == most ? low : 0u);
  }
  // 26 bits of 32 lanes fit a word.
  constexpr std::uint32_t bits = (1u << 26) - 1;
  std::uint64_t const top = __reduce_add_sync(~0u, static_cast<std::uint32_t>(x >> 52));
  std::uint64_t const middle = __reduce_add_sync(~0u, static_cast<std::uint32_t>(x >> 26) & bits);
  return (top << 52) + (middle << 26) + __reduce_add_sync(~0u, low & bits);
}

/// Joins what all threads of the block have, for all of them. `turn`: 0 and 1 in turn, since who is
/// late still reads the other one's.
[[nodiscard]] __device__ __forceinline__ std::uint64_t join_block(std::uint64_t x, joined_by how,
                                                                  unsigned turn) {
  auto& warp = shared_of_block().warp[turn];
  unsigned const lane = threadIdx.x % 32;
  x = join_warp(x, how);
  if (lane == 0) { warp[threadIdx.x / 32] = x; }
  __syncthreads();
  return join_warp(lane < sample_warps ? warp[lane] : 0, how);
}

/// The blocks of a row, as they tell each other what they know. What is told is written into the
/// others' shared memory and counted there, so that nobody waits but for what it needs: a barrier
/// of 16 blocks takes 1,000 cycles, this 600. All threads of all blocks call the same; a
/// `__syncthreads` lies between what was told last and the next, and what two `give`s wrote is
/// not read longer than until something else is told.
class sample_team {
 public:
  [[nodiscard]] __device__ std::uint64_t join(std::uint64_t x, joined_by how, bool whole = true) {
    turn_ ^= 1;
    x = join_block(x, how, turn_);
    return whole && team_size() > 1 ? join_warp(tell({x, 0}).x, how) : x;
  }

  /// Adds up two numbers.
  [[nodiscard]] __device__ ulonglong2 add_two(ulonglong2 mine) {
    mine.x = join(mine.x, joined_by::sum, false);
    mine.y = join(mine.y, joined_by::sum, false);
    if (team_size() == 1) { return mine; }
    ulonglong2 const theirs = tell(mine);
    return {join_warp(theirs.x, joined_by::sum), join_warp(theirs.y, joined_by::sum)};
  }

  /// What block `lane` told; 0 for lanes that are none. All threads of a block tell the same.
  [[nodiscard]] __device__ ulonglong2 tell(ulonglong2 mine) {
    sample_shared& shared = shared_of_block();
    unsigned const size = team_size();
    unsigned const turn = told_ & 1;
    unsigned const lane = threadIdx.x % 32;
    if (size == 1) { return lane == 0 ? mine : ulonglong2{0, 0}; }
    if (threadIdx.x < size) { send(&shared.joined[turn][team_rank()], mine, threadIdx.x); }
    wait(size * sizeof(mine));
    return lane < size ? shared.joined[turn][lane] : ulonglong2{0, 0};
  }

  /// The larger of two words of all blocks' first words, and the largest of the rest.
  [[nodiscard]] __device__ ulonglong2 two_largest(ulonglong2 mine) {
    if (team_size() == 1) { return mine; }
    ulonglong2 const theirs = tell(mine);
    std::uint64_t const most = join_warp(theirs.x, joined_by::max);
    std::uint64_t const rest = theirs.x == most ? theirs.y : theirs.x >> 32;
    return {most, join_warp(rest, joined_by::max)};
  }

  /// Gives all blocks `n` words of 16 bytes of this one's at `mine`, `n` a power of two, and tells
  /// a number, as tell() does.
  [[nodiscard]] __device__ ulonglong2 give(ulonglong2* mine, unsigned n, ulonglong2 number) {
    unsigned const size = team_size();
    if (size == 1) { return tell(number); }
    for (unsigned i = threadIdx.x; i < n * size; i += sample_threads) {
      unsigned const at = i & (n - 1);
      send(mine + at, mine[at], i >> (31 - __clz(static_cast<int>(n))));
    }
    more_ = size * n * static_cast<unsigned>(sizeof(*mine));
    return tell(number);
  }

 private:
  /// To where it lies here, in block `to`.
  __device__ void send([[maybe_unused]] ulonglong2* at, [[maybe_unused]] ulonglong2 const& what,
                       [[maybe_unused]] unsigned to) const {
#if __CUDA_ARCH__ >= 900
    std::uint32_t there;
    std::uint32_t barrier;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(at)), "r"(to));
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(barrier)
        : "r"(shared_address(&shared_of_block().arrived[told_ & 1])), "r"(to));
    asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [%0], {%1, %2}, [%3];" ::"r"(
        there),
      "l"(what.x), "l"(what.y), "r"(barrier)
      : "memory");
#endif
  }

  /// Until so many bytes have come.
  __device__ void wait([[maybe_unused]] unsigned bytes) {
#if __CUDA_ARCH__ >= 900
    std::uint32_t const barrier = shared_address(&shared_of_block().arrived[told_ & 1]);
    if (threadIdx.x == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                   "r"(bytes + more_)
                   : "memory");
    }
    std::uint32_t done = 0;
    while (done == 0) {
      asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(told_ >> 1 & 1)
        : "memory");
    }
#endif
    more_ = 0;
    ++told_;
  }

  unsigned turn_ = 0;
  unsigned told_ = 0;
  unsigned more_ = 0;
};

}  // namespace tpx::detail
