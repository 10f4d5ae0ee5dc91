// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>

#include <cuda_runtime_api.h>

/// A stream of a test's own, that knows nothing of the default one.
class stream {
 public:
  stream() {
    tpx::detail::cuda_check(cudaStreamCreateWithFlags(&s_, cudaStreamNonBlocking), "a stream");
  }
  stream(stream&&) = delete;
  ~stream() { cudaStreamDestroy(s_); }
  operator cudaStream_t() const { return s_; }
  void sync() const { tpx::detail::cuda_check(cudaStreamSynchronize(s_), "waiting for a stream"); }

 private:
  cudaStream_t s_ = nullptr;
};
