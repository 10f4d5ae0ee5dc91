// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>

#include <memory>

namespace tpx::detail {

struct free_device {
  void operator()(void* at) const { static_cast<void>(cudaFree(at)); }
};
struct free_pinned {
  void operator()(void* at) const { static_cast<void>(cudaFreeHost(at)); }
};
template <class T>
using device_array = std::unique_ptr<T[], free_device>;
template <class T>
using pinned_array = std::unique_ptr<T[], free_pinned>;

template <class T>
[[nodiscard]] device_array<T> make_device_array(std::size_t n) {
  void* at = nullptr;
  cuda_check(cudaMalloc(&at, n * sizeof(T)),
             "allocating " + std::to_string(n * sizeof(T)) + " bytes for a sampler");
  return device_array<T>{static_cast<T*>(at)};
}
template <class T>
[[nodiscard]] pinned_array<T> make_pinned_array(std::size_t n) {
  void* at = nullptr;
  cuda_check(cudaHostAlloc(&at, n * sizeof(T), cudaHostAllocMapped | cudaHostAllocPortable),
             "allocating " + std::to_string(n * sizeof(T)) + " page-locked bytes");
  auto* const first = static_cast<T*>(at);
  for (std::size_t i = 0; i < n; ++i) { new (first + i) T{}; }
  return pinned_array<T>{first};
}

}  // namespace tpx::detail
