// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "options.hpp"
#include "row.cuh"

#include <tpx/group.hpp>

#include <vector>

namespace bench {

/// y += x, or y = x if `first`.
template <class T>
__global__ void accumulate(T* y, T const* x, std::size_t n, bool first) {
  using sum = tpx::accumulate_t<T>;
  std::size_t const step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    y[i] = first ? x[i] : static_cast<T>(static_cast<sum>(y[i]) + static_cast<sum>(x[i]));
  }
}

/// exllamav2's all-reduce: one host thread enqueues, for every GPU, a running sum that goes from
/// rank to rank through page-locked memory, rounded at each; the last rank's goes back to all.
/// Events order the GPUs' streams. Two buffers take turns, as its callers' do: a rank overwrites
/// one only after every rank has passed through the other.
template <class T>
class exllama_chain {
 public:
  exllama_chain(int ranks, std::size_t bytes) : passed_(static_cast<std::size_t>(ranks)) {
    for (auto& buffer : host_) {
      check_cuda(cudaHostAlloc(&buffer, bytes, cudaHostAllocPortable), "page-locked memory");
    }
    int home = 0;
    check_cuda(cudaGetDevice(&home), "cudaGetDevice");
    int devices = 1;
    check_cuda(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
    for (int r = 0; r < ranks; ++r) {
      device_.push_back(r % devices);
      check_cuda(cudaSetDevice(r % devices), "cudaSetDevice");
      check_cuda(cudaEventCreateWithFlags(&passed_[at(r)], cudaEventDisableTiming), "an event");
    }
    check_cuda(cudaSetDevice(home), "cudaSetDevice");
  }
  exllama_chain(exllama_chain&&) = delete;
  ~exllama_chain() {
    for (auto event : passed_) { cudaEventDestroy(event); }
    for (auto* buffer : host_) { cudaFreeHost(buffer); }
  }

  /// Enqueues `ops` all-reduces on the ranks' streams, after what rank 0's has so far and before
  /// what it gets next: events on that stream, or a graph captured from it, hold all of them.
  void operator()(std::vector<call> const& ranks, int ops) {
    record(0, ranks);
    for (std::size_t r = 1; r < ranks.size(); ++r) { wait(r, 0, ranks); }
    for (int k = 0; k < ops; ++k) { one(ranks); }
    for (std::size_t r = 1; r < ranks.size(); ++r) {
      check_cuda(cudaSetDevice(device_[r]), "cudaSetDevice");
      record(r, ranks);
      wait(0, r, ranks);
    }
    check_cuda(cudaSetDevice(device_[0]), "cudaSetDevice");
  }

 private:
  void one(std::vector<call> const& ranks) {
    std::size_t const last = ranks.size() - 1;
    std::size_t const n = ranks[0].s.in;
    void* const host = host_[turn_++ % 2];
    for (std::size_t r = 0; r <= last; ++r) {
      auto const& c = ranks[r];
      check_cuda(cudaSetDevice(device_[r]), "cudaSetDevice");
      if (r > 0) {
        wait(r, r - 1, ranks);
        copy(c.y, host, n * sizeof(T), cudaMemcpyHostToDevice, c.stream);
      }
      auto const blocks = static_cast<unsigned>(std::clamp<std::size_t>(n / 256, 1, 2048));
      accumulate<T>
        <<<blocks, 256, 0, c.stream>>>(static_cast<T*>(c.y), static_cast<T const*>(c.x), n, r == 0);
      check_cuda(cudaGetLastError(), "adding to the running sum");
      copy(host, c.y, n * sizeof(T), cudaMemcpyDeviceToHost, c.stream);
      record(r, ranks);
    }
    for (std::size_t r = 0; r < last; ++r) {
      check_cuda(cudaSetDevice(device_[r]), "cudaSetDevice");
      wait(r, last, ranks);
      copy(ranks[r].y, host, n * sizeof(T), cudaMemcpyHostToDevice, ranks[r].stream);
    }
  }

  static std::size_t at(int r) { return static_cast<std::size_t>(r); }

  void record(std::size_t r, std::vector<call> const& ranks) {
    check_cuda(cudaEventRecord(passed_[r], ranks[r].stream), "cudaEventRecord");
  }
  void wait(std::size_t r, std::size_t other, std::vector<call> const& ranks) {
    check_cuda(cudaStreamWaitEvent(ranks[r].stream, passed_[other], 0), "cudaStreamWaitEvent");
  }
  static void copy(void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind,
                   cudaStream_t stream) {
    check_cuda(cudaMemcpyAsync(to, from, bytes, kind, stream), "a copy through the host");
  }

  void* host_[2]{};
  std::vector<cudaEvent_t> passed_;
  std::vector<int> device_;
  unsigned turn_ = 0;
};

template <class T>
row exllama_row(tpx::group const& g, std::shared_ptr<arrays> const& plain, std::size_t bytes) {
  row chain{.provider = "exllamav2", .memory = plain, .solo = true};
  if (g.rank() == 0) {
    auto const all = std::make_shared<exllama_chain<T>>(g.size(), bytes);
    chain.enqueue_all = [all](std::vector<call> const& ranks, int ops) { (*all)(ranks, ops); };
  }
  return chain;
}

}  // namespace bench
