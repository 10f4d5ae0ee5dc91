// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/cluster.cuh>
#include <tpx/space.hpp>

#include <cuda/atomic>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace tpx {

/// Execution space: a grid of CUDA blocks on a stream is the rank.
struct Cuda {
  using stream_type = cudaStream_t;
};

namespace detail {

/// What ended a wait on a GPU, for the host to read. In page-locked host memory.
struct device_report {
  enum why : std::uint64_t { none, deadline, mismatch };
  std::uint64_t reason;     // a `why`
  std::uint64_t peer;       // whom it waited for
  std::uint64_t signature;  // of the call that waited
  std::uint64_t theirs;     // mismatch: what the peer called
  std::uint64_t ready;      // stored last, with release
};

/// What ends a rank's waits on a GPU. In that GPU's own memory, so that polling it costs no link.
struct device_watch {
  std::uint64_t aborted;  // raised by the host, or by the first wait that gives up; sticky
  std::uint64_t claimed;  // by the first wait that gives up
  device_report* report;
};

}  // namespace detail

/// The threads of a CUDA block as a rank's thread group; each block is a channel.
///
/// Waits poll; every 64th poll looks at the abort word and the clock. The deadline is that of one
/// wait, counted from its 64th poll.
class cuda_block {
  using device_word = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_device>;
  using system_word = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>;

 public:
  __device__ cuda_block(detail::device_watch* watch, std::uint64_t limit_ns,
                        std::uint64_t signature)
      : watch_{watch}, limit_ns_{limit_ns}, signature_{signature} {}

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

  /// See folding_group. For 2^k warps.
  template <unsigned Launched>
  static constexpr unsigned threads = Launched;
  [[nodiscard]] __device__ static unsigned members() noexcept { return detail::cluster::size(); }
  [[nodiscard]] __device__ static unsigned member() noexcept { return detail::cluster::rank(); }
  __device__ static void meet() noexcept { detail::cluster::sync(); }
  __device__ static void arrive() noexcept { detail::cluster::arrive(); }
  __device__ static void await() noexcept { detail::cluster::await(); }
  template <class A, unsigned M, class Op>
  __device__ void reduce(A (&values)[M], Op const& op) const noexcept {
    constexpr unsigned everyone = ~0u;
    __shared__ A of_warp[2][M][32];  // in turn, since who is late still reads the other one
    unsigned const lane = threadIdx.x % 32;
    unsigned const warps = blockDim.x / 32;
    auto const pairwise = [&](unsigned threads) {
      for (unsigned s = 1; s < threads; s *= 2) {
        TPX_UNROLL
        for (unsigned m = 0; m < M; ++m) {
          values[m] = op(values[m], __shfl_xor_sync(everyone, values[m], s));
        }
      }
    };
    pairwise(32);
    odd_ = !odd_;
    TPX_UNROLL
    for (unsigned m = 0; m < M; ++m) {
      A* const mine = &of_warp[odd_ ? 1 : 0][m][member() * warps + threadIdx.x / 32];
      if (lane < members()) { *detail::cluster::there(mine, lane) = values[m]; }
    }
    meet();
    unsigned const all = warps * members();
    TPX_UNROLL
    for (unsigned m = 0; m < M; ++m) { values[m] = of_warp[odd_ ? 1 : 0][m][lane & (all - 1)]; }
    pairwise(all);
  }

  [[nodiscard]] __device__ bool aborted() const noexcept {
    return system_word{watch_->aborted}.load(cuda::memory_order_relaxed) != 0;
  }

  [[nodiscard]] __device__ bool pause(unsigned polls, std::uint64_t&, goal,
                                      int peer) const noexcept {
    return polls % 64 != 63 || look(polls == 63, peer);
  }

  __device__ void mismatch(int peer, std::uint64_t theirs) const noexcept {
    give_up(detail::device_report::mismatch, peer, theirs);
  }

  [[nodiscard]] __device__ static std::uint64_t now_ns() noexcept {
    std::uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
  }

 private:
  [[nodiscard]] __device__ __noinline__ bool look(bool first, int peer) const noexcept {
    if (aborted()) { return false; }
    auto const now = now_ns();
    if (first) { begun_ns_ = now; }
    if (now - begun_ns_ < limit_ns_) { return true; }
    give_up(detail::device_report::deadline, peer, 0);
    return false;
  }

  /// The first to give up says why. `claimed` lies in this GPU's own memory, where exchanging is
  /// allowed; the report is stored to alone.
  __device__ void give_up(detail::device_report::why why, int peer,
                          std::uint64_t theirs) const noexcept {
    if (device_word{watch_->claimed}.exchange(1, cuda::memory_order_relaxed) == 0) {
      auto& report = *watch_->report;
      report.reason = why;
      report.peer = static_cast<std::uint64_t>(peer);
      report.signature = signature_;
      report.theirs = theirs;
      system_word{report.ready}.store(1, cuda::memory_order_release);
    }
    system_word{watch_->aborted}.store(1, cuda::memory_order_relaxed);
  }

  detail::device_watch* watch_;
  std::uint64_t limit_ns_;
  std::uint64_t signature_;
  mutable std::uint64_t begun_ns_ = 0;
  mutable bool odd_ = false;
};
static_assert(folding_group<cuda_block>);

namespace detail {

/// Threads of a block of a protocol's kernel, and threads that an SM is to hold, which bounds the
/// registers of each: what the protocol says.
template <class P>
inline constexpr unsigned threads_of = [] {
  if constexpr (requires { P::block_threads; }) {
    return unsigned{P::block_threads};
  } else {
    return 256u;
  }
}();
template <class P>
inline constexpr unsigned resident_threads = [] {
  if constexpr (requires { P::resident_threads; }) {
    return unsigned{P::resident_threads};
  } else {
    return 2 * threads_of<P>;
  }
}();

/// The library's one kernel: runs a protocol. It begins while the kernel before it in the stream
/// ends (programmatic dependent launch, where the launch allows it) and waits for that one's end
/// before it touches memory.
template <class P>
__global__ void __launch_bounds__(threads_of<P>, resident_threads<P> / threads_of<P>)
  run(__grid_constant__ P const p, device_watch* watch, std::uint64_t limit_ns,
      std::uint64_t signature) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  p(cuda_block{watch, limit_ns, signature});
}

}  // namespace detail
}  // namespace tpx
