// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/cuda/space.cuh>
#include <tpx/runtime/member.hpp>
#include <tpx/runtime/signature.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

namespace tpx::detail {

/// Keeps a GPU's waits and its group of one mind: a wait that gave up ends the group, and the end
/// of the group ends the GPU's waits. One thread, which looks every 2 ms.
class device_watcher {
 public:
  device_watcher(member const& me, int device) : me_{me}, device_{device} {
    cuda_check(cudaHostAlloc(reinterpret_cast<void**>(&host_), sizeof(*host_),
                             cudaHostAllocMapped | cudaHostAllocPortable),
               "allocating the report of a GPU's waits");
    std::memset(static_cast<void*>(host_), 0, sizeof(*host_));
    host_->one = 1;
    device_report* report = nullptr;
    cuda_check(cudaHostGetDevicePointer(reinterpret_cast<void**>(&report), &host_->report, 0),
               "mapping the report of a GPU's waits");
    cuda_check(cudaMalloc(reinterpret_cast<void**>(&watch_), sizeof(*watch_)),
               "allocating a GPU's abort word");
    device_watch const fresh{.aborted = 0, .claimed = 0, .report = report};
    cuda_check(cudaMemcpy(watch_, &fresh, sizeof(fresh), cudaMemcpyHostToDevice),
               "writing a GPU's abort word");
    cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
               "creating the watcher's stream");
    thread_ = std::jthread{[this](std::stop_token const& stop) { run(stop); }};
  }

  device_watcher(device_watcher&&) = delete;

  /// Nothing may run any more that waits under it.
  ~device_watcher() {
    thread_.request_stop();
    if (thread_.joinable()) { thread_.join(); }
    (void)cudaStreamDestroy(stream_);
    (void)cudaFree(watch_);
    (void)cudaFreeHost(host_);
  }

  [[nodiscard]] device_watch* watch() const noexcept { return watch_; }

  /// Throws what ended the group, a wait on this GPU included.
  void check() {
    report();
    me_.check();
  }

 private:
  struct shared {
    device_report report;
    std::uint64_t one;  // what the abort word becomes
  };

  void run(std::stop_token const& stop) {
    (void)cudaSetDevice(device_);
    auto mode = cudaStreamCaptureModeRelaxed;
    (void)cudaThreadExchangeStreamCaptureMode(&mode);  // a capture elsewhere is none of ours
    bool told = false;
    std::unique_lock lock{mutex_};
    while (!stop.stop_requested()) {
      report();
      if (!told && (me_.aborted() || me_.superseded())) {
        told = cudaMemcpyAsync(&watch_->aborted, &host_->one, sizeof(host_->one),
                               cudaMemcpyHostToDevice, stream_) == cudaSuccess;
      }
      wake_.wait_for(lock, stop, std::chrono::milliseconds{2}, [] { return false; });
    }
  }

  /// Ends the group if a wait on the GPU gave up.
  void report() {
    auto& r = host_->report;
    if (std::atomic_ref{r.ready}.load(std::memory_order_acquire) == 0) { return; }
    if (reported_.exchange(true)) { return; }
    auto const call = call_signature::unpack(r.signature);
    auto const peer = static_cast<int>(r.peer);
    std::string const who = "rank " + std::to_string(peer);
    if (r.reason == device_report::mismatch) {
      me_.raise(errc::mismatch, peer,
                who + " called " + to_string(call_signature::unpack(r.theirs)) + " where rank " +
                  std::to_string(me_.rank) + " called " + to_string(call) +
                  "; every rank must call the same",
                to_string(call));
    } else {
      me_.raise(errc::timeout, peer,
                who + " did not come within " +
                  std::to_string(
                    std::chrono::duration_cast<std::chrono::milliseconds>(me_.deadline).count()) +
                  " ms",
                to_string(call));
    }
  }

  member me_;
  int device_;
  shared* host_ = nullptr;
  device_watch* watch_ = nullptr;
  cudaStream_t stream_ = nullptr;
  std::atomic<bool> reported_ = false;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;
};

}  // namespace tpx::detail
