// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/sample/chunk.hpp>

#include <cuda_runtime.h>

namespace tpx {
namespace detail {

/// Four tokens of a row a thread: what is allowed is neither read nor written.
template <class T>
__global__ void __launch_bounds__(256)
  mask_rows(T* logits, std::size_t stride, std::uint32_t columns, std::uint32_t const* masks,
            std::size_t words, std::size_t mask_stride) {
  std::uint32_t const token = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (token >= columns) { return; }
  std::uint32_t const word = token / 32 < words ? masks[blockIdx.y * mask_stride + token / 32] : 0u;
  std::uint32_t const allowed = word >> token % 32 & 15u;
  if (allowed == 15u) { return; }
  T* const row = logits + blockIdx.y * stride;
  TPX_UNROLL
  for (std::uint32_t i = 0; i < 4; ++i) {
    if ((allowed >> i & 1u) == 0 && token + i < columns) {
      row[token + i] = static_cast<T>(no_logit);
    }
  }
}

}  // namespace detail

/// Makes logits of forbidden tokens -infinity on a GPU, in place, for whoever samples with
/// something else; `cuda_sampler` takes masks itself.
///
/// Shapes  logits: (rows, columns), float or bfloat16; masks: (rows, words) in mask.hpp's layout,
/// or
///         (words) for all rows. Tokens past a mask are forbidden. Both in device memory.
/// Cost    the masks are read, and forbidden logits written.
template <class T>
void apply_masks(std::span<T> logits, std::size_t columns, std::span<std::uint32_t const> masks,
                 std::size_t words, cudaStream_t stream) {
  std::size_t const rows = columns == 0 ? 0 : logits.size() / columns;
  expects(
    columns < (std::size_t{1} << 31) && rows * columns == logits.size() && rows < 65536 &&
      (masks.size() == words || masks.size() == rows * words),
    [&] {
      return "apply_masks: " + std::to_string(logits.size()) + " logits in rows of " +
             std::to_string(columns) + " and " + std::to_string(masks.size()) +
             " words of masks of " + std::to_string(words);
    },
    "give whole rows, at most 65535, and one mask or one for each");
  if (rows == 0) { return; }
  dim3 const grid{static_cast<unsigned>((columns + 1023) / 1024), static_cast<unsigned>(rows)};
  detail::mask_rows<<<grid, 256, 0, stream>>>(
    logits.data(), columns, static_cast<std::uint32_t>(columns), masks.data(), words,
    masks.size() == words ? std::size_t{0} : words);
  detail::cuda_check(cudaGetLastError(), "masking logits");
}

}  // namespace tpx
