// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// Marks a function that runs on the CPU and, when nvcc compiles it, on the GPU too.
#if defined(__CUDACC__)
#  define TPX_HD __host__ __device__
#else
#  define TPX_HD
#endif

/// Before a loop that the device compiler is to unroll, or not to, whatever its cost model says. A
/// kernel begins with its code uncached, so that short code is fast code.
#if defined(__CUDA_ARCH__)
#  define TPX_UNROLL _Pragma("unroll")
#  define TPX_ROLLED _Pragma("unroll 1")
#else
#  define TPX_UNROLL
#  define TPX_ROLLED
#endif

namespace tpx {

/// The most ranks that a group can have: one host's GPUs.
inline constexpr int max_ranks = 16;

/// Bytes that two processors must not share when each writes its own word.
inline constexpr int cache_line = 64;

}  // namespace tpx
