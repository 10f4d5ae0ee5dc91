// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/generator/guidance.hpp>

#include <cstdint>
#include <span>

namespace tpx::detail {

template <class T>
__global__ void __launch_bounds__(256)
  guide_row(T* logits, T const* negative, std::uint32_t columns, float strength) {
  std::uint32_t const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < columns) { logits[i] = guided_logit(logits[i], negative[i], strength); }
}

/// tpx::guide in device memory.
inline void guide_on_gpu(std::span<float> logits, std::span<float const> negative, float strength,
                         cudaStream_t stream) {
  auto const columns = static_cast<std::uint32_t>(logits.size());
  guide_row<<<(columns + 255) / 256, 256, 0, stream>>>(logits.data(), negative.data(), columns,
                                                       strength);
  cuda_check(cudaGetLastError(), "guiding logits");
}

}  // namespace tpx::detail
