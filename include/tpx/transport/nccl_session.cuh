// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/transport/nccl_state.cuh>

#include <condition_variable>
#include <csignal>
#include <exception>
#include <pthread.h>
#include <thread>

namespace tpx::detail {

/// Owns a state and the thread that watches it.
class nccl_session {
 public:
  explicit nccl_session(std::shared_ptr<nccl_state> state)
      : work_{std::make_shared<shared>()}, exceptions_{std::uncaught_exceptions()} {
    work_->state = std::move(state);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);  // the program's handlers stay on its threads
    try {
      thread_ = std::make_unique<std::thread>([work = work_] { watch(*work); });
    } catch (...) {}
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (!thread_) { throw error{errc::out_of_memory, "no thread to watch a communicator"}; }
  }
  nccl_session(nccl_session&&) = delete;

  /// Waits for calls under way, which the watcher bounds, and lets the watcher destroy NCCL's
  /// communicator. NCCL's own end may wait for other ranks or for CUDA graphs that hold captured
  /// calls: after the deadline, or a second once the group has ended, it is left to the watcher.
  ~nccl_session() {
    if (forks_ != fork_count()) {  // a child has neither the thread nor a GPU
      (void)thread_.release();
      (void)new std::shared_ptr<shared>{work_};
      return;
    }
    auto& state = *work_->state;
    bool const orderly = std::uncaught_exceptions() <= exceptions_;
    while (orderly && !state.ended() && !state.idle()) {
      std::this_thread::sleep_for(std::chrono::microseconds{50});
    }
    std::unique_lock lock{work_->mutex};
    work_->stop = true;
    work_->orderly = orderly;
    work_->bell.notify_all();
    auto const patience = std::chrono::nanoseconds{state.ended() ? 0 : state.limit_ns()};
    bool const done =
      work_->bell.wait_for(lock, patience + std::chrono::seconds{1}, [&] { return work_->done; });
    lock.unlock();
    done ? thread_->join() : thread_->detach();
    if (done) { return; }
    log(log_level::warn, state.rank(), [] {
      return "NCCL's communicator does not end and is left behind; destroy CUDA graphs first";
    });
  }

  [[nodiscard]] nccl_state& state() const { return *work_->state; }
  [[nodiscard]] std::shared_ptr<nccl_state> share() const { return work_->state; }

 private:
  struct shared {
    std::shared_ptr<nccl_state> state;
    std::mutex mutex;
    std::condition_variable bell;
    bool stop = false;
    bool orderly = true;
    bool done = false;
  };

  static void watch(shared& work) {
    auto& state = *work.state;
    cudaSetDevice(state.device());
    // Its questions must not spoil what other threads capture.
    auto mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
    std::unique_lock lock{work.mutex};
    while (!work.bell.wait_for(lock, std::chrono::milliseconds{2}, [&] { return work.stop; })) {
      lock.unlock();
      state.look();
      lock.lock();
    }
    bool const orderly = work.orderly;
    lock.unlock();
    state.retire(orderly);
    lock.lock();
    work.done = true;
    work.bell.notify_all();
  }

  std::shared_ptr<shared> work_;
  std::unique_ptr<std::thread> thread_;
  int exceptions_;
  std::uint32_t forks_ = fork_count();
};

}  // namespace tpx::detail
