// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/runtime/park.hpp>

#include <cstdint>

namespace tpx::detail {

/// A stream of the current device that waits for no other and that no other waits for.
class private_stream {
 public:
  private_stream() {
    cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
  }
  private_stream(private_stream&&) = delete;
  ~private_stream() { static_cast<void>(cudaStreamDestroy(stream_)); }

  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }

  /// Whether all its work is done before now_ns() reaches `until`. Throws what the work threw.
  [[nodiscard]] bool finish(std::uint64_t until, std::string_view what) const {
    while (true) {
      auto const status = cudaStreamQuery(stream_);
      if (status != cudaErrorNotReady) {
        cuda_check(status, what);
        return true;
      }
      static_cast<void>(cudaGetLastError());  // it counts as an error
      if (now_ns() >= until) { return false; }
      ::sched_yield();
    }
  }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace tpx::detail
