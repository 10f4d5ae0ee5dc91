// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/runtime/cell.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tpx::detail {

template <class Packet>
__global__ void fill_packets(Packet* to, Packet value, std::size_t n) {
  std::size_t const first = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (auto i = first; i < n; i += std::size_t{gridDim.x} * blockDim.x) { to[i] = value; }
}

/// Fills memory that the current device reaches, `bytes` of it, a multiple of 16 as `to` is. With
/// cudaMemset in its place the library's programs did not start under compute-sanitizer's
/// initcheck.
inline void fill(void* to, unsigned char byte, std::size_t bytes, cudaStream_t stream,
                 std::string_view what) {
  std::uint32_t const word = byte * 0x01010101u;
  fill_packets<<<64, 256, 0, stream>>>(static_cast<packet*>(to), packet{{word, word, word, word}},
                                       bytes / sizeof(packet));
  cuda_check(cudaGetLastError(), what);
}

}  // namespace tpx::detail
