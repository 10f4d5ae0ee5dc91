// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/transport/nccl_state.cuh>

#include <cstddef>
#include <memory>
#include <utility>

namespace tpx {

/// GPU memory of NCCL's allocator, which its windows need. Of the GPU that is current.
class nccl_buffer {
 public:
  /// Errors: nccl.
  explicit nccl_buffer(std::size_t bytes) : bytes_{bytes} {
    if (auto const result = ncclMemAlloc(&data_, bytes); result != ncclSuccess) {
      throw error{errc::nccl,
                  detail::nccl_story(result, "allocate " + std::to_string(bytes) + " bytes")};
    }
  }
  nccl_buffer(nccl_buffer&& other) noexcept
      : data_{std::exchange(other.data_, nullptr)}, bytes_{std::exchange(other.bytes_, 0)} {}
  nccl_buffer& operator=(nccl_buffer&&) = delete;
  ~nccl_buffer() {
    if (data_ != nullptr) { ncclMemFree(data_); }
  }

  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)

/// Memory registered with a communicator of NCCL as a symmetric window, for as long as this lives:
/// calls whose arrays lie in windows at the same offset on every rank run NCCL's symmetric kernels.
/// Ends before the communicator and before the memory, when no call uses it.
class [[nodiscard]] nccl_window {
 public:
  nccl_window(std::shared_ptr<detail::nccl_state> state, void* data, std::size_t bytes)
      : state_{std::move(state)}, window_{new ncclWindow_t{}} {
    auto* const into = window_.get();
    try {
      state_->begin({collective::share});
      state_->await_all();
      state_->call("register a window", [&](ncclComm_t comm) {
        return ncclCommWindowRegister(comm, data, bytes, into, NCCL_WIN_COLL_SYMMETRIC);
      });
    } catch (...) {
      (void)window_.release();  // NCCL may still write there
      throw;
    }
  }
  nccl_window(nccl_window&&) = default;
  nccl_window& operator=(nccl_window&&) = delete;
  ~nccl_window() {
    if (!registered() || state_->ended() || state_->handle() == nullptr) { return; }
    try {
      state_->call("let go of a window",
                   [&](ncclComm_t comm) { return ncclCommWindowDeregister(comm, *window_); });
    } catch (error const&) {}  // it has been reported to the group
  }

  /// False where NCCL has no symmetric memory: it then moves data as it does without windows.
  [[nodiscard]] bool registered() const noexcept {
    return window_ != nullptr && *window_ != nullptr;
  }
  [[nodiscard]] ncclWindow_t handle() const noexcept {
    return window_ == nullptr ? nullptr : *window_;
  }

 private:
  std::shared_ptr<detail::nccl_state> state_;
  std::unique_ptr<ncclWindow_t> window_;
};

#endif

}  // namespace tpx
