// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/op.hpp>
#include <tpx/protocol/block.hpp>

#include <cuda/atomic>
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tpx::detail {

/// Calls f(i) for each i < n.
template <class F>
__global__ void nccl_each(__grid_constant__ F const f, std::size_t n) {
  std::size_t const step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    f(i);
  }
}

/// Loads F's kernel on the current GPU, before a kernel of NCCL may keep that GPU busy.
template <class F>
void nccl_load(int device) {
  static std::atomic<std::uint64_t> loaded{0};
  auto const bit = std::uint64_t{1} << (device % 64);
  if (device < 64 && (loaded.load(std::memory_order_relaxed) & bit) != 0) { return; }
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, nccl_each<F>), "loading a kernel");
  loaded.fetch_or(bit, std::memory_order_relaxed);
}

template <class F>
void nccl_launch(F const& f, std::size_t n, cudaStream_t stream) {
  if (n == 0) { return; }
  constexpr unsigned threads = 256;
  cudaLaunchConfig_t config{};
  config.gridDim.x =
    static_cast<unsigned>(std::min<std::size_t>((n + threads - 1) / threads, 1024));
  config.blockDim.x = n == 1 ? 1 : threads;
  config.stream = stream;
  cuda_check(cudaLaunchKernelEx(&config, nccl_each<F>, f, n), "launching a kernel beside NCCL's");
}

/// 16-bit values as what they are added in.
template <class T, class W>
struct nccl_widen {
  T const* in;
  W* out;
  TPX_HD void operator()(std::size_t i) const { out[i] = static_cast<W>(in[i]); }
};

/// Reduced values, finished and rounded.
template <class T, class W, class Epilogue>
struct nccl_finish {
  W const* in;
  T* out;
  std::size_t first;  // the epilogue's index of out[0]
  Epilogue epilogue;
  TPX_HD void operator()(std::size_t i) const {
    out[i] = static_cast<T>(epilogue(static_cast<accumulate_t<T>>(in[i]), first + i));
  }
};

/// All ranks' values, added in rank order, finished and rounded.
template <class T, class Op, class Epilogue>
struct nccl_fold {
  T const* in;  // (ranks, pitch)
  std::size_t pitch;
  int ranks;
  T* out;
  std::size_t first;
  Op op;
  Epilogue epilogue;
  TPX_HD void operator()(std::size_t i) const {
    using A = accumulate_t<T>;
    A sum = static_cast<A>(in[i]);
    for (int r = 1; r < ranks; ++r) {
      sum = op(sum, static_cast<A>(in[static_cast<std::size_t>(r) * pitch + i]));
    }
    out[i] = static_cast<T>(epilogue(sum, first + i));
  }
};

/// Elements [first, first + some) of each part of a row-major matrix; a part is the columns that
/// `cut` names, counted row by row. Part p lies in (parts, some) at row p; i counts those elements.
struct nccl_parts {
  columns cut;
  std::size_t rows;
  std::size_t pitch;
  std::size_t first;
  std::size_t some;

  /// Where in the matrix element i lies; false: part i / some is shorter.
  TPX_HD bool find(std::size_t i, std::size_t& place) const {
    auto const p = static_cast<int>(i / some);
    std::size_t const width = cut.size(p);
    std::size_t const j = first + i % some;
    if (j >= rows * width) { return false; }
    place = (j / width) * pitch + cut.begin[p] + j % width;
    return true;
  }
};

template <class T, class W>
struct nccl_pack {
  nccl_parts parts;
  T const* matrix;
  W* packed;
  TPX_HD void operator()(std::size_t i) const {
    if (std::size_t place = 0; parts.find(i, place)) { packed[i] = static_cast<W>(matrix[place]); }
  }
};

template <class T>
struct nccl_unpack {
  nccl_parts parts;
  T const* packed;
  T* matrix;
  TPX_HD void operator()(std::size_t i) const {
    if (std::size_t place = 0; parts.find(i, place)) { matrix[place] = packed[i]; }
  }
};

/// How far the calls in a CUDA graph are, told by empty kernels before and after each of them. In
/// page-locked host memory, so that the CPU reads it whatever the GPU does.
struct nccl_marks {
  std::uint64_t begun;
  std::uint64_t ended;
  std::uint64_t signature;  // of the call begun last
};

struct nccl_mark {
  std::uint64_t* count;  // in the GPU's memory; a communicator's calls run one after the other
  nccl_marks* marks;
  std::uint64_t signature;  // 0: the call ends
  TPX_HD void operator()(std::size_t) const {
    auto& shown = signature != 0 ? marks->begun : marks->ended;
    if (signature != 0) {
      ++*count;
      marks->signature = signature;
    }
    cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>{shown}.store(
      *count, cuda::memory_order_release);
  }
};

}  // namespace tpx::detail
