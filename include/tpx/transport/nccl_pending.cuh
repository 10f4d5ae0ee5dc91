// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/runtime/park.hpp>

#include <array>
#include <mutex>

namespace tpx::detail {

/// What is known of one call for a report.
struct nccl_call {
  std::uint64_t signature = 0;
  std::uint64_t epoch = 0;
};

/// A communicator's eager calls that have not ended on the GPU, each between two events. One thread
/// makes them; another may look at the same time.
class nccl_pending {
 public:
  enum class state { idle, under_way, late, broken };

  nccl_pending() {
    for (auto& s : slots_) {
      cuda_check(cudaEventCreateWithFlags(&s.before, cudaEventDisableTiming), "creating an event");
      cuda_check(cudaEventCreateWithFlags(&s.after, cudaEventDisableTiming), "creating an event");
    }
  }
  nccl_pending(nccl_pending&&) = delete;
  ~nccl_pending() {
    for (auto const& s : slots_) {
      static_cast<void>(cudaEventDestroy(s.before));
      static_cast<void>(cudaEventDestroy(s.after));
    }
  }

  /// False: as many calls are under way as fit; look() makes room.
  [[nodiscard]] bool has_room() const {
    std::lock_guard const lock{mutex_};
    return count_ < capacity;
  }

  /// Before and after a call is enqueued. One that was not closed counts as not made.
  void open(cudaStream_t stream) {
    cuda_check(cudaEventRecord(next().before, stream), "recording an event");
  }
  void close(cudaStream_t stream, nccl_call call) {
    auto& s = next();
    cuda_check(cudaEventRecord(s.after, stream), "recording an event");
    s.call = call;
    s.begun_ns = 0;
    std::lock_guard const lock{mutex_};
    ++count_;
  }

  /// Forgets the calls that have ended. `late`: the oldest other one has run for `limit_ns` or
  /// longer since a look() first saw it begun. `which`: the oldest one, of which `late` and
  /// `broken` (the GPU reports an error) tell.
  [[nodiscard]] state look(std::uint64_t limit_ns, nccl_call& which, cudaError_t& status) {
    std::lock_guard const lock{mutex_};
    while (count_ != 0) {
      auto& s = slots_[head_ % capacity];
      which = s.call;
      status = cudaEventQuery(s.after);
      if (status == cudaErrorNotReady) {
        bool const begun = s.begun_ns != 0 || cudaEventQuery(s.before) == cudaSuccess;
        (void)cudaGetLastError();  // not ready is no error for whoever asks next
        if (!begun) { return state::under_way; }
        if (s.begun_ns == 0) { s.begun_ns = now_ns(); }
        return now_ns() - s.begun_ns < limit_ns ? state::under_way : state::late;
      }
      if (status != cudaSuccess) { return state::broken; }
      ++head_;
      --count_;
    }
    return state::idle;
  }

 private:
  static constexpr std::size_t capacity = 512;
  struct slot {
    cudaEvent_t before = nullptr;
    cudaEvent_t after = nullptr;
    nccl_call call;
    std::uint64_t begun_ns = 0;
  };

  /// Nobody else touches it before close() counts it.
  [[nodiscard]] slot& next() {
    std::lock_guard const lock{mutex_};
    return slots_[(head_ + count_) % capacity];
  }

  mutable std::mutex mutex_;
  std::array<slot, capacity> slots_{};
  std::size_t head_ = 0;
  std::size_t count_ = 0;
};

}  // namespace tpx::detail
