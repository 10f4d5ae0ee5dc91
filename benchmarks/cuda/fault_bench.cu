// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What becomes of the other ranks when rank 1 fails: fault_bench <tpx|nccl> <fault> [deadline in
// ms], a process a rank, under tpx-run --keep-going. scripts/fault_table.sh makes a table of it.
//
//   kill    it is killed while its collective runs
//   absent  it stops calling, and comes back after the others have given up
//   late    it calls after half the deadline: no fault
//   size    it calls with half as many elements
//
// Each surviving rank prints one line: what it noticed, after how many ms, whether its context
// works, and whether the survivors' next communicator adds right. NCCL's users must watch by
// themselves: this one asks for asynchronous errors and gives up after 10 s ("hangs").
#include "device.cuh"

#include <tpx/allreduce.hpp>
#include <tpx/cuda.cuh>
#include <tpx/run_ranks.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#if defined(TPX_BENCH_NCCL)
#  include <nccl.h>
#endif

namespace {

using tpx::group;
using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t elements = 16384;
constexpr auto patience = 10s;

struct outcome {
  std::string noticed = "nothing";
  std::int64_t at_ns = 0;
};

std::int64_t now_ns() {
  return std::chrono::nanoseconds{clock::now().time_since_epoch()}.count();
}

/// What all-reduces are made of here: calls that enqueue, and a look at what was noticed.
struct by_tpx {
  by_tpx(group& g, cudaStream_t stream) : comm{g}, stream_{stream} {}
  void enqueue(float* x, std::size_t n) {
    tpx::allreduce(comm, std::span{x, n}, tpx::Sum{}, stream_);
  }
  std::string look() {
    try {
      comm.check();
    } catch (tpx::error const& e) { return std::string{tpx::name(e.code())}; }
    return "";
  }
  void give_up() {}
  tpx::communicator<tpx::Auto> comm;
  cudaStream_t stream_;
};

#if defined(TPX_BENCH_NCCL)
struct by_nccl {
  by_nccl(group& g, cudaStream_t stream) : stream_{stream} {
    auto const shared = g.share(sizeof(ncclUniqueId), 0);
    auto& id = *reinterpret_cast<ncclUniqueId*>(shared->data());
    if (g.rank() == 0) { check(ncclGetUniqueId(&id)); }
    g.exchange(0);
    check(ncclCommInitRank(&comm, g.size(), id, g.rank()));
  }
  void enqueue(float* x, std::size_t n) {
    check(ncclAllReduce(x, x, n, ncclFloat, ncclSum, comm, stream_));
  }
  std::string look() {
    ncclResult_t result = ncclSuccess;
    if (ncclCommGetAsyncError(comm, &result) == ncclSuccess && result == ncclSuccess) { return ""; }
    return ncclGetErrorString(result);
  }
  void give_up() {
    if (comm != nullptr) { ncclCommAbort(comm); }
    comm = nullptr;
  }
  ~by_nccl() { give_up(); }
  static void check(ncclResult_t result) {
    if (result != ncclSuccess) { throw tpx::error{tpx::errc::nccl, ncclGetErrorString(result)}; }
  }
  ncclComm_t comm = nullptr;
  cudaStream_t stream_;
};
#endif

/// Waits for the stream; "" if all went well.
template <class By>
std::string finish(By& by, cudaStream_t stream) {
  auto const until = clock::now() + patience;
  while (true) {
    auto const status = cudaStreamQuery(stream);
    if (auto said = by.look(); !said.empty()) { return said; }
    if (status == cudaSuccess) { return ""; }
    if (status != cudaErrorNotReady) { return cudaGetErrorName(status); }
    if (clock::now() > until) { return "hangs"; }
    std::this_thread::sleep_for(50us);
  }
}

/// n all-reduces of ones, each made anew; "" if the last is right.
template <class By>
std::string good_calls(By& by, group& g, float* x, int n, cudaStream_t stream) {
  std::vector<float> ones(elements, 1.0f);
  for (int i = 0; i < n; ++i) {
    bench::check_cuda(
      cudaMemcpyAsync(x, ones.data(), elements * sizeof(float), cudaMemcpyHostToDevice, stream),
      "copying");
    by.enqueue(x, elements);
  }
  if (auto said = finish(by, stream); !said.empty()) { return said; }
  bench::check_cuda(cudaMemcpy(ones.data(), x, elements * sizeof(float), cudaMemcpyDeviceToHost),
                    "copying");
  return ones[7] == static_cast<float>(g.size()) ? "" : "wrong sums";
}

template <class By>
outcome meet_fault(group& g, std::string const& fault, std::chrono::milliseconds deadline, float* x,
                   std::atomic_ref<std::int64_t> struck, cudaStream_t stream) {
  By by{g, stream};
  outcome met;
  if (auto said = good_calls(by, g, x, 50, stream); !said.empty()) {
    return {"before: " + said, 0};
  }
  g.exchange(1);
  bool const culprit = g.rank() == 1;
  try {
    for (int i = 0; i < 200 && met.noticed == "nothing"; ++i) {
      std::size_t n = elements;
      if (culprit && i == 100) {
        struck = now_ns();
        if (fault == "absent") {
          std::this_thread::sleep_for(std::max<std::chrono::nanoseconds>(2 * deadline, 12s));
          by.give_up();
          return {"itself", now_ns()};
        }
        if (fault == "late") { std::this_thread::sleep_for(deadline / 2); }
        if (fault == "size") { n /= 2; }
      }
      by.enqueue(x, n);
      if (culprit && i == 100 && fault == "kill") { std::raise(SIGKILL); }
      if (auto said = finish(by, stream); !said.empty()) { met = {said, now_ns()}; }
    }
  } catch (tpx::error const& e) { met = {std::string{tpx::name(e.code())}, now_ns()}; }
  by.give_up();
  return met;
}

template <class By>
void run(group& g, std::string const& fault, std::chrono::milliseconds deadline) {
  cudaStream_t stream = nullptr;
  bench::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  bench::device_memory const memory{elements * sizeof(float)};
  auto* const x = static_cast<float*>(memory.get());
  auto const shared = g.share(sizeof(std::int64_t), 0);
  std::atomic_ref const struck{*reinterpret_cast<std::int64_t*>(shared->data())};
  auto const met = meet_fault<By>(g, fault, deadline, x, struck, stream);
  std::string context = "works";
  std::string again = "right";
  try {
    bench::check_cuda(cudaStreamSynchronize(stream), "a kernel that was to leave");
    bench::device_memory const more{1 << 20};
  } catch (std::exception const& e) { context = e.what(); }
  try {
    g.reset();
    By by{g, stream};
    if (auto said = good_calls(by, g, x, 1000, stream); !said.empty()) { again = said; }
  } catch (std::exception const& e) { again = e.what(); }
  auto const ms = met.at_ns == 0 ? 0.0 : static_cast<double>(met.at_ns - struck) * 1e-6;
  std::printf("survivor,%s,%.1f,%s,%s\n", met.noticed.c_str(), ms, context.c_str(), again.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: tpx-run -k -n RANKS fault_bench tpx|nccl "
                 "kill|absent|late|size [deadline in ms]\n");
    return 2;
  }
  std::string const who = argv[1];
  std::string const fault = argv[2];
  std::chrono::milliseconds const deadline{argc > 3 ? std::atoi(argv[3]) : 2000};
  // NCCL's start takes longer than a deadline should be, and is not what is timed.
  auto const limit = who == "nccl" ? std::chrono::milliseconds{60s} : deadline;
  try {
    tpx::run_ranks(0,
                   [&](group& g) {
                     bench::check_cuda(cudaSetDevice(g.rank()), "choosing a GPU");
                     bench::check_cuda(cudaFree(nullptr), "making a context");
#if defined(TPX_BENCH_NCCL)
                     if (who == "nccl") { return run<by_nccl>(g, fault, deadline); }
#endif
                     run<by_tpx>(g, fault, deadline);
                   },
                   {.deadline = limit});
  } catch (std::exception const& e) {
    std::printf("survivor,%s,0.0,,\n", e.what());
    return 3;
  }
}
