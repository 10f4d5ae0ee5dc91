// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

namespace tpx::detail {

/// Blocks that run at the same time and reach each other's shared memory; one block alone where the
/// launch or, before sm_90, the GPU knows no clusters.
struct cluster {
  [[nodiscard]] static __device__ unsigned size() {
    unsigned blocks = 1;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
#endif
    return blocks;
  }
  [[nodiscard]] static __device__ unsigned rank() {
    unsigned place = 0;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(place));
#endif
    return place;
  }

  /// All threads of all blocks have come, and see what each of them wrote.
  static __device__ void sync() {
    arrive();
    await();
  }
  /// The same in two steps.
  static __device__ void arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
  }
  static __device__ void await() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
  }

  /// Where the block of that rank has what is `mine` here, in shared memory. It must have begun,
  /// and not have ended.
  template <class T>
  [[nodiscard]] static __device__ T* there(T* mine, unsigned rank) {
#if __CUDA_ARCH__ >= 900
    T* theirs;
    asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(mine), "r"(rank));
    return theirs;
#else
    static_cast<void>(rank);
    return mine;
#endif
  }
};

}  // namespace tpx::detail
