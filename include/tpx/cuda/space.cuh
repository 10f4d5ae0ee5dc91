// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/space.hpp>

#include <cuda/atomic>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace tpx {

/// What ends a rank's waits on a GPU, and what ended one. In that GPU's memory, zeroed at start.
struct device_watch {
  std::uint64_t aborted;    // raised by the host, or by the first wait that gives up; sticky
  std::uint64_t reason;     // of that wait: 1 deadline, 2 mismatch
  std::uint64_t peer;       // whom it waited for
  std::uint64_t signature;  // mismatch: what the peer called
};

/// The threads of a CUDA block as a rank's thread group; each block is a channel.
///
/// Waits poll; every 64th poll looks at the abort word and the clock.
struct cuda_block {
  device_watch* watch;
  std::uint64_t deadline_ns;  // %globaltimer at which waits give up

  static constexpr unsigned tile = 1;
  [[nodiscard]] __device__ static unsigned thread_rank() noexcept { return threadIdx.x; }
  [[nodiscard]] __device__ static unsigned size() noexcept { return blockDim.x; }
  [[nodiscard]] __device__ static unsigned channel() noexcept { return blockIdx.x; }
  [[nodiscard]] __device__ static unsigned channels() noexcept { return gridDim.x; }
  __device__ static void sync() noexcept { __syncthreads(); }
  [[nodiscard]] __device__ static bool all(bool ok) noexcept {
    return __syncthreads_and(static_cast<int>(ok)) != 0;
  }
  __device__ static void ring(int) noexcept {}

  [[nodiscard]] __device__ static std::uint64_t now_ns() noexcept {
    std::uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
  }

  [[nodiscard]] __device__ bool pause(unsigned polls, std::uint64_t&, std::uint64_t,
                                      int peer) const noexcept {
    if (polls % 64 != 63) { return true; }
    if (abort_word().load(cuda::memory_order_relaxed) != 0) { return false; }
    if (now_ns() < deadline_ns) { return true; }
    give_up(1, peer, 0);
    return false;
  }

  __device__ void mismatch(int peer, std::uint64_t signature) const noexcept {
    give_up(2, peer, signature);
  }

 private:
  using word = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>;
  [[nodiscard]] __device__ word abort_word() const noexcept { return word{watch->aborted}; }

  /// The first to give up says why. The words lie in this GPU's own memory, where exchanging is
  /// allowed.
  __device__ void give_up(std::uint64_t why, int peer, std::uint64_t signature) const noexcept {
    if (cuda::atomic_ref<std::uint64_t, cuda::thread_scope_device>{watch->reason}.exchange(
          why, cuda::memory_order_relaxed) == 0) {
      watch->peer = static_cast<std::uint64_t>(peer);
      watch->signature = signature;
      abort_word().store(1, cuda::memory_order_release);
    }
  }
};
static_assert(thread_group<cuda_block>);

namespace detail {

/// The library's one generic kernel.
template <class P>
__global__ void run(__grid_constant__ P const p, device_watch* watch, std::uint64_t limit_ns) {
  p(cuda_block{watch, cuda_block::now_ns() + limit_ns});
}

}  // namespace detail

/// Execution space: a grid of CUDA blocks on a stream is the rank.
struct Cuda {
  cudaStream_t stream{};
  unsigned blocks = 1;  // as many as the windows have channels, on every rank
  unsigned threads = 512;
  device_watch* watch = nullptr;
  std::uint64_t deadline_ns = 30'000'000'000;  // from the kernel's start

  /// Loads the protocol's kernel, which must happen on every rank before any rank launches one that
  /// waits for another: a first launch may need a device that such a kernel keeps busy.
  template <class P>
  static cudaError_t load() {
    cudaFuncAttributes a{};
    return cudaFuncGetAttributes(&a, detail::run<P>);
  }

  template <protocol<cuda_block> P>
  cudaError_t launch(P const& p) const {
    detail::run<<<blocks, threads, 0, stream>>>(p, watch, deadline_ns);
    return cudaGetLastError();
  }
};

}  // namespace tpx
