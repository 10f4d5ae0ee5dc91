// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "data.cuh"

namespace bench {

/// Work captured once on a stream, to be launched again and again.
class graph {
 public:
  template <class F>
  graph(cudaStream_t stream, F&& enqueue) {
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
    enqueue();
    check_cuda(cudaStreamEndCapture(stream, &graph_), "capturing");
    check_cuda(cudaGraphInstantiate(&exec_, graph_, 0), "instantiating a graph");
    check_cuda(cudaGraphUpload(exec_, stream), "uploading a graph");
    check_cuda(cudaStreamSynchronize(stream), "uploading a graph");
  }
  graph(graph&&) = delete;
  ~graph() {
    if (exec_ != nullptr) { cudaGraphExecDestroy(exec_); }
    if (graph_ != nullptr) { cudaGraphDestroy(graph_); }
  }
  void launch(cudaStream_t stream) const {
    check_cuda(cudaGraphLaunch(exec_, stream), "launching a graph");
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

class device_memory {
 public:
  explicit device_memory(std::size_t bytes) {
    check_cuda(cudaMalloc(&memory_, bytes), "cudaMalloc");
    // The first touch is slow.
    check_cuda(cudaMemset(memory_, 0, bytes), "cudaMemset");
    check_cuda(cudaDeviceSynchronize(), "cudaMemset");
  }
  device_memory(device_memory&&) = delete;
  ~device_memory() { cudaFree(memory_); }
  [[nodiscard]] void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

}  // namespace bench
