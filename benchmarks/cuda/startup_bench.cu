// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// How long ranks take to be ready, once their CUDA contexts exist: startup_bench [RANKS], a thread
// a GPU (all GPUs), or under tpx-run a process a rank. A CSV line for each library and step: the
// slowest rank's milliseconds, of the first time and the best of five more. "ready": the
// communicator is made; "first call": and an all-reduce of 8 KiB has ended.
#include "device.cuh"

#include <tpx/allreduce.hpp>
#include <tpx/cuda.cuh>
#include <tpx/run_ranks.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#if defined(TPX_BENCH_NCCL)
#  include <nccl.h>
#endif

namespace {

using tpx::group;

constexpr std::size_t elements = 2048;

struct by_tpx {
  explicit by_tpx(group& g) : comm{g} {}
  void call(float* x, cudaStream_t stream) {
    tpx::allreduce(comm, std::span{x, elements}, tpx::Sum{}, stream);
  }
  tpx::communicator<tpx::Auto> comm;
};

#if defined(TPX_BENCH_NCCL)
struct by_nccl {
  explicit by_nccl(group& g) {
    auto const shared = g.share(sizeof(ncclUniqueId), 0);
    auto& id = *reinterpret_cast<ncclUniqueId*>(shared->data());
    if (g.rank() == 0) { check(ncclGetUniqueId(&id)); }
    g.exchange(0);
    check(ncclCommInitRank(&comm, g.size(), id, g.rank()));
  }
  by_nccl(by_nccl&&) = delete;
  ~by_nccl() { ncclCommDestroy(comm); }
  void call(float* x, cudaStream_t stream) {
    check(ncclAllReduce(x, x, elements, ncclFloat, ncclSum, comm, stream));
  }
  static void check(ncclResult_t result) {
    if (result != ncclSuccess) { throw tpx::error{tpx::errc::nccl, ncclGetErrorString(result)}; }
  }
  ncclComm_t comm = nullptr;
};
#endif

/// The slowest rank's milliseconds.
double slowest(group& g, double ms) {
  auto const all = g.exchange(static_cast<std::uint64_t>(ms * 1e6));
  return static_cast<double>(*std::max_element(all.begin(), all.begin() + g.size())) * 1e-6;
}

template <class By>
void measure(group& g, char const* name, float* x, cudaStream_t stream) {
  double first[2]{};
  double best[2]{1e9, 1e9};
  for (int i = 0; i < 6; ++i) {
    g.exchange(0);
    auto const begun = std::chrono::steady_clock::now();
    auto const ms = [&] {
      std::chrono::duration<double, std::milli> const took =
        std::chrono::steady_clock::now() - begun;
      return took.count();
    };
    By by{g};
    double const ready = slowest(g, ms());
    by.call(x, stream);
    bench::check_cuda(cudaStreamSynchronize(stream), "the first call");
    double const called = slowest(g, ms());
    if (i == 0) {
      first[0] = ready;
      first[1] = called;
    } else {
      best[0] = std::min(best[0], ready);
      best[1] = std::min(best[1], called);
    }
    g.exchange(0);  // all have called before one goes
  }
  if (g.rank() == 0) {
    std::printf("%s,%d,ready,%.1f,%.1f\n", name, g.size(), first[0], best[0]);
    std::printf("%s,%d,first call,%.1f,%.1f\n", name, g.size(), first[1], best[1]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  int gpus = 0;
  try {
    bench::check_cuda(cudaGetDeviceCount(&gpus), "counting GPUs");
    bool const launched = tpx::launch_from_environment().has_value();
    int const ranks = launched ? 0 : argc > 1 ? std::atoi(argv[1]) : gpus;
    for (int d = 0; d < gpus && !launched; ++d) {
      bench::check_cuda(cudaSetDevice(d), "choosing a GPU");
      bench::check_cuda(cudaFree(nullptr), "making a context");
    }
    tpx::run_ranks(ranks,
                   [&](group& g) {
                     bench::check_cuda(cudaSetDevice(g.rank()), "choosing a GPU");
                     bench::check_cuda(cudaFree(nullptr), "making a context");
                     cudaStream_t stream = nullptr;
                     bench::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                                       "a stream");
                     bench::device_memory const memory{elements * sizeof(float)};
                     auto* const x = static_cast<float*>(memory.get());
                     if (g.rank() == 0) { std::printf("library,ranks,step,first_ms,best_ms\n"); }
                     measure<by_tpx>(g, "tpx", x, stream);
#if defined(TPX_BENCH_NCCL)
                     measure<by_nccl>(g, "NCCL", x, stream);
#endif
                     bench::check_cuda(cudaStreamDestroy(stream), "a stream");
                   },
                   {.deadline = std::chrono::seconds{120}});
  } catch (std::exception const& e) {
    std::fprintf(stderr, "startup_bench: %s\n", e.what());
    return 1;
  }
}
