// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

namespace tpx::detail {

/// Throws `out_of_memory` or `cuda` unless a call of the CUDA runtime succeeded. `what`: what was
/// attempted, as in "mapping 4096 bytes". The runtime forgets the error, unless it is one that ends
/// the device's context.
inline void cuda_check(cudaError_t status, std::string_view what, error_facts const& known,
                       cuda::std::source_location where = cuda::std::source_location::current()) {
  if (status == cudaSuccess) { return; }
  static_cast<void>(cudaGetLastError());
  throw error{
    status == cudaErrorMemoryAllocation ? errc::out_of_memory : errc::cuda,
    std::string{what} + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status), known,
    where};
}

inline void cuda_check(cudaError_t status, std::string_view what,
                       cuda::std::source_location where = cuda::std::source_location::current()) {
  if (status != cudaSuccess) { cuda_check(status, what, error_facts{}, where); }
}

}  // namespace tpx::detail
