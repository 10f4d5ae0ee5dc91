// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "world.hpp"

#include <tpx/cuda.cuh>
#include <tpx/run_ranks.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>

/// What tests of collectives on GPUs share: ranks with a GPU each, device memory with guards,
/// graphs, and data that a kernel makes and another one checks.
///
/// Ranks are threads; under a launcher (TPX_RANK, TPX_WORLD_SIZE, TPX_JOB) this process is one rank
/// and the others run the same program. TPX_TEST_RANKS=2 allows that world size only,
/// TPX_TEST_REDUCED=1 leaves out what takes long under compute-sanitizer.
namespace gpus {

using namespace world;
using tpx::detail::cuda_check;

/// Where there are more ranks than GPUs, ranks share one, each with a queue of its own. Before CUDA
/// reads the environment.
inline int const shared_allowed = ::setenv("TPX_ALLOW_SHARED_GPU", "1", 0);
inline int const queues = ::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);

/// A kernel that is loaded when it is first launched waits for the GPU, where another rank's may be
/// waiting for it.
inline int const eager = ::setenv("CUDA_MODULE_LOADING", "EAGER", 0);

/// GPUs here, at most 8.
inline int count() {
  static int const found = [] {
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess ? std::min(n, 8) : 0;
  }();
  return found;
}

inline int number_in(char const* variable) {
  char const* const text = std::getenv(variable);
  return text == nullptr ? 0 : std::atoi(text);
}

inline bool reduced() {
  return number_in("TPX_TEST_REDUCED") != 0;
}

/// As a launcher set it; empty where ranks are threads of this process.
inline std::optional<launch> const& job() {
  static auto const found = launch_from_environment();
  return found;
}

inline int device_of(int rank) {
  return rank % count();
}

/// Whether ranks of a world of n share a GPU: then all their blocks must be small enough to run at
/// the same time.
inline bool shared(int n) {
  return n > count();
}

/// World sizes worth a test here: up to the number of GPUs, and up to 4 on shared ones.
inline std::vector<int> worlds(int least = 1) {
  int const only = job() ? job()->size : number_in("TPX_TEST_RANKS");
  std::vector<int> all;
  for (int n = least; n <= std::max(count(), 4); ++n) {
    if (only == 0 || n == only) { all.push_back(n); }
  }
  return all;
}

/// Makes the contexts of this process, which takes seconds, before a deadline counts.
inline void make_contexts() {
  static bool const made = [] {
    for (int d = 0; d < count(); ++d) {
      if (job() && d != device_of(job()->rank)) { continue; }
      cuda_check(cudaSetDevice(d), "choosing a GPU");
      cuda_check(cudaFree(nullptr), "making a context");
    }
    return true;
  }();
  static_cast<void>(made);
}

/// Runs body(group, stream) on n ranks, each with its GPU current.
template <class F>
void on_gpus(int n, F body, std::chrono::milliseconds deadline = std::chrono::seconds{60}) {
  make_contexts();
  auto on_rank = [&](group& g) {
    cuda_check(cudaSetDevice(device_of(g.rank())), "choosing a GPU");
    tpx::detail::private_stream const stream;
    body(g, stream.get());
    cuda_check(cudaStreamSynchronize(stream.get()), "waiting for the rank's stream");
  };
  if (job()) {
    run_ranks(n, on_rank, {.deadline = deadline});
  } else {
    tpx::detail::run_threads(n, on_rank, {.deadline = deadline});
  }
}

inline void sync(cudaStream_t stream) {
  cuda_check(cudaStreamSynchronize(stream), "waiting for a stream");
}

/// Waits for a rank's work, and throws what became of it.
template <class Comm>
void settle(Comm& comm, cudaStream_t stream) {
  sync(stream);
  comm.check();
}

/// Small grids where ranks share a GPU.
inline communicator_options fitting(int n, communicator_options o = {}) {
  if (shared(n)) {
    o.tune.most_blocks = std::min(o.tune.most_blocks, 8u);
    o.tune.stream_blocks = o.tune.stream_blocks == 0 ? 8 : std::min(o.tune.stream_blocks, 8u);
  }
  return o;
}

/// One allocation, handed out in pieces: allocating and freeing may wait for other ranks' kernels
/// where a GPU is shared, so neither is done between collectives.
class arena {
 public:
  explicit arena(std::size_t bytes) : bytes_{bytes} {
    cuda_check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes), "allocating test data");
  }
  arena(arena&&) = delete;
  ~arena() { static_cast<void>(cudaFree(data_)); }

  /// At a border of 256 bytes, with at least 256 unused bytes behind.
  std::byte* take(std::size_t bytes) {
    auto* const at = data_ + used_;
    used_ += (bytes + 511) / 256 * 256;
    expects(used_ <= bytes_, "the test's arena is too small");
    return at;
  }
  template <class T>
  std::span<T> array(std::size_t n) {
    return {reinterpret_cast<T*>(take(n * sizeof(T))), n};
  }
  void clear() { used_ = 0; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_;
  std::size_t used_ = 0;
};

/// An array of n elements, `offset` from a border of 256 bytes, with guards on both sides; filled
/// with a poison that no result is.
template <class T>
class guarded_array {
 public:
  guarded_array(arena& from, std::size_t n, std::size_t offset, cudaStream_t stream)
      : n_{n}, begin_{guard + offset}, all_{from.array<T>(n + offset + 2 * guard)} {
    cuda_check(cudaMemsetAsync(all_.data(), 0xa5, all_.size_bytes(), stream), "poisoning");
  }

  [[nodiscard]] std::span<T> span() const { return all_.subspan(begin_, n_); }

  void put(std::span<T const> from, cudaStream_t stream) const {
    if (n_ == 0) { return; }
    cuda_check(
      cudaMemcpyAsync(span().data(), from.data(), n_ * sizeof(T), cudaMemcpyHostToDevice, stream),
      "copying to the GPU");
  }

  /// The elements, once all work of the stream is done. `intact`: set to false if a guard changed.
  std::vector<T> get(cudaStream_t stream, bool& intact) const {
    sync(stream);
    std::vector<T> all(all_.size());
    cuda_check(
      cudaMemcpyAsync(all.data(), all_.data(), all_.size_bytes(), cudaMemcpyDeviceToHost, stream),
      "copying from the GPU");
    sync(stream);
    T poison;
    std::memset(static_cast<void*>(&poison), 0xa5, sizeof(T));
    for (std::size_t i = 0; i < all.size(); ++i) {
      bool const ours = i >= begin_ && i < begin_ + n_;
      if (!ours && !same_bits(all[i], poison)) { intact = false; }
    }
    return {all.begin() + static_cast<std::ptrdiff_t>(begin_),
            all.begin() + static_cast<std::ptrdiff_t>(begin_ + n_)};
  }

 private:
  static constexpr std::size_t guard = 64;
  std::size_t n_;
  std::size_t begin_;
  std::span<T> all_;
};

/// What f() puts into a stream, to be launched any number of times.
class graph {
 public:
  template <class F>
  graph(cudaStream_t stream, F&& f) {
    cudaGraph_t made = nullptr;
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
    try {
      f();
    } catch (...) {
      static_cast<void>(cudaStreamEndCapture(stream, &made));
      if (made != nullptr) { static_cast<void>(cudaGraphDestroy(made)); }
      throw;
    }
    cuda_check(cudaStreamEndCapture(stream, &made), "ending a capture");
    auto const status = cudaGraphInstantiate(&graph_, made, 0);
    static_cast<void>(cudaGraphDestroy(made));
    cuda_check(status, "instantiating a graph");
    cuda_check(cudaGraphUpload(graph_, stream), "uploading a graph");
    sync(stream);
  }
  graph(graph&&) = delete;
  ~graph() { static_cast<void>(cudaGraphExecDestroy(graph_)); }

  void launch(cudaStream_t stream) const {
    cuda_check(cudaGraphLaunch(graph_, stream), "launching a graph");
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

/// Data that kernels make and check: integers of -8 to 7, so that sums of 16 ranks are exact in
/// every type and every order of addition. `salt` tells one call's data from another's.
__host__ __device__ inline int small(int rank, std::size_t i, std::uint64_t salt) {
  std::uint64_t h = (salt * 64 + static_cast<std::uint64_t>(rank)) * 0x9e3779b97f4a7c15u + i;
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  return static_cast<int>(h >> 60) - 8;
}

template <class T>
__host__ __device__ T from_int(int v) {
  if constexpr (std::is_integral_v<T> || std::is_floating_point_v<T>) {
    return static_cast<T>(v);
  } else {
    return T{static_cast<float>(v)};
  }
}

/// A salt that grows with every replay of the graph that it is passed to: *base + k.
struct salted {
  std::uint64_t const* base = nullptr;
  std::uint64_t k = 0;
  [[nodiscard]] __device__ std::uint64_t get() const { return (base == nullptr ? 0 : *base) + k; }
};

/// x[i] = small(rank, first + i, salt).
template <class T>
__global__ void fill_small(T* x, std::size_t n, int rank, std::size_t first, salted salt) {
  auto const s = salt.get();
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += std::size_t{gridDim.x} * blockDim.x) {
    x[i] = from_int<T>(small(rank, first + i, s));
  }
}

/// Counts i for which x[i] is not the sum of small(r, first + i, salt) over ranks [from, to).
template <class T>
__global__ void check_small(T const* x, std::size_t n, int from, int to, std::size_t first,
                            salted salt, unsigned long long* wrong) {
  auto const s = salt.get();
  unsigned long long mine = 0;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += std::size_t{gridDim.x} * blockDim.x) {
    int sum = 0;
    for (int r = from; r < to; ++r) { sum += small(r, first + i, s); }
    T const wanted = from_int<T>(sum);
    mine += static_cast<unsigned long long>(!(x[i] == wanted));
  }
  if (mine != 0) { atomicAdd(wrong, mine); }
}

/// A template, as kernels in headers are.
template <class Word>
__global__ void grow(Word* base, Word by) {
  *base += by;
}

inline unsigned blocks_for(std::size_t n) {
  return static_cast<unsigned>(std::clamp<std::size_t>((n + 1023) / 1024, 1, 64));
}

template <class T>
void fill(std::span<T> x, int rank, salted salt, cudaStream_t stream, std::size_t first = 0) {
  fill_small<<<blocks_for(x.size()), 256, 0, stream>>>(x.data(), x.size(), rank, first, salt);
  cuda_check(cudaGetLastError(), "launching a kernel that makes data");
}

/// Counts into *wrong what is not the sum of ranks [from, to).
template <class T>
void check(std::span<T> x, int from, int to, salted salt, unsigned long long* wrong,
           cudaStream_t stream, std::size_t first = 0) {
  check_small<<<blocks_for(x.size()), 256, 0, stream>>>(x.data(), x.size(), from, to, first, salt,
                                                        wrong);
  cuda_check(cudaGetLastError(), "launching a kernel that checks data");
}

/// Words of a rank's GPU that kernels count in, all 0 at first.
class counters {
 public:
  counters(arena& from, cudaStream_t stream) : words_{from.array<unsigned long long>(4)} {
    cuda_check(cudaMemsetAsync(words_.data(), 0, words_.size_bytes(), stream), "clearing");
    sync(stream);
  }
  [[nodiscard]] unsigned long long* wrong() const { return words_.data(); }
  [[nodiscard]] std::uint64_t* base() const {
    return reinterpret_cast<std::uint64_t*>(words_.data() + 1);
  }
  [[nodiscard]] unsigned long long read(cudaStream_t stream) const {
    sync(stream);
    unsigned long long now = 0;
    cuda_check(cudaMemcpyAsync(&now, wrong(), sizeof(now), cudaMemcpyDeviceToHost, stream),
               "fetching the count");
    sync(stream);
    return now;
  }

 private:
  std::span<unsigned long long> words_;
};

}  // namespace gpus

/// First in a test that needs a world of at least `least` ranks: skips it where there is none.
#define NEED_GPUS(least)                      \
  if (gpus::count() == 0) { SKIP("no GPU"); } \
  if (gpus::worlds(least).empty()) { SKIP("not of this size"); }
