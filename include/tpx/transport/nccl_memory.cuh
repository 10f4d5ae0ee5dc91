// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/cuda/private_stream.cuh>
#include <tpx/transport/nccl_kernels.cuh>

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace tpx::detail {

/// What a communicator on NCCL allocates: scratch for what NCCL lacks, a word for barriers, counts
/// for captured calls. Of the GPU that is current at construction, and of the host.
class nccl_memory {
 public:
  /// Before the scratch: a count of captured calls, then the barrier's word.
  static constexpr std::size_t head = 256;

  explicit nccl_memory(std::size_t scratch_bytes) : bytes_{scratch_bytes} {
    try {
      cuda_check(cudaMalloc(&device_, head + bytes_),
                 "allocating " + std::to_string(bytes_) + " bytes of scratch for NCCL",
                 {.remedy = "lower the communicator's max_bytes, or free GPU memory"});
      cuda_check(cudaHostAlloc(&host_, sizeof(nccl_marks), cudaHostAllocMapped),
                 "allocating page-locked memory");
      *static_cast<nccl_marks*>(host_) = {};
      cuda_check(cudaHostGetDevicePointer(&mapped_, host_, 0), "mapping page-locked memory");
      cuda_check(cudaMemsetAsync(device_, 0, head + bytes_, stream()), "clearing memory");
      cuda_check(cudaStreamSynchronize(stream()), "clearing memory");
    } catch (...) {
      release();
      throw;
    }
  }
  nccl_memory(nccl_memory&&) = delete;
  ~nccl_memory() { release(); }

  /// For what is not a user's call.
  [[nodiscard]] cudaStream_t stream() const { return stream_.get(); }

  [[nodiscard]] std::size_t scratch_bytes() const { return bytes_; }
  template <class T>
  [[nodiscard]] T* scratch() const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(device_) + head);
  }
  [[nodiscard]] float* barrier_word() const {
    return reinterpret_cast<float*>(static_cast<std::byte*>(device_) + head / 2);
  }
  [[nodiscard]] nccl_marks& marks() const { return *static_cast<nccl_marks*>(host_); }

  /// The kernel that says a captured call begins (its signature) or ends (0).
  [[nodiscard]] nccl_mark mark(std::uint64_t signature) const {
    return {static_cast<std::uint64_t*>(device_), static_cast<nccl_marks*>(mapped_), signature};
  }

 private:
  void release() {
    static_cast<void>(cudaFreeHost(host_));
    static_cast<void>(cudaFree(device_));
  }

  std::size_t bytes_;
  private_stream stream_;
  void* device_ = nullptr;
  void* host_ = nullptr;
  void* mapped_ = nullptr;
};

}  // namespace tpx::detail
