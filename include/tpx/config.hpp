// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// Marks a function that runs on the CPU and, when nvcc compiles it, on the GPU too.
#if defined(__CUDACC__)
#  define TPX_HD __host__ __device__
#else
#  define TPX_HD
#endif

namespace tpx {

/// The most ranks that a group can have: one host's GPUs.
inline constexpr int max_ranks = 16;

/// Bytes that two processors must not share when each writes its own word.
inline constexpr int cache_line = 64;

}  // namespace tpx
