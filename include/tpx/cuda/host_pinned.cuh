// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/gpus.cuh>
#include <tpx/transport/host_pinned.hpp>

namespace tpx {
namespace detail {

/// Shared memory that is page-locked and mapped for all GPUs of this process while the object
/// lives. Not more than one for the same mapping.
class registered_memory {
 public:
  explicit registered_memory(shared_memory&& memory) : memory_{std::move(memory)} {
    cuda_check(cudaHostRegister(memory_.data(), memory_.bytes(),
                                cudaHostRegisterPortable | cudaHostRegisterMapped),
               "page-locking " + std::to_string(memory_.bytes()) + " bytes of shared memory",
               error_facts{.remedy = "lower the communicator's max_bytes"});
  }
  registered_memory(registered_memory&&) = delete;
  ~registered_memory() { static_cast<void>(cudaHostUnregister(memory_.data())); }

  [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }
  [[nodiscard]] int fd() const noexcept { return memory_.fd(); }
  void close_fd() noexcept { memory_.close_fd(); }

  /// As the current device addresses it.
  [[nodiscard]] std::byte* on_device() const {
    void* at = nullptr;
    cuda_check(cudaHostGetDevicePointer(&at, memory_.data(), 0), "mapping shared memory");
    return static_cast<std::byte*>(at);
  }

 private:
  shared_memory memory_;
};

}  // namespace detail

/// One region with all ranks' windows, made by rank 0 and page-locked once by each process. Nothing
/// may use it any more when it ends.
///
/// All ranks pass the same `bytes`. Errors: two ranks on one GPU; out_of_memory, io and cuda of any
/// rank, on all. Cost: all of it is committed and page-locked, so it grows with the bytes.
template <>
class HostPinned::memory<Cuda> {
 public:
  memory(group& g, std::size_t bytes) : each_{(bytes + page - 1) / page * page} {
    static_cast<void>(detail::gpus_of(g));  // all contexts are there before memory is locked
    auto const all = each_ * static_cast<std::size_t>(g.size());
    expects(
      bytes > 0 && all <= call_signature::max_count,
      [&] { return "cannot share " + std::to_string(all) + " bytes"; }, "1 byte to 64 GiB");
    call_signature const call{collective::share, dtype::uint8, detail::type_code<memory>(), 0, all};
    using detail::registered_memory;
    region_ = g.hand_round<registered_memory>(
      call, 1, [&] { return std::make_shared<registered_memory>(shared_memory::create(all)); },
      [&](unique_fd fd, int) {
        return std::make_shared<registered_memory>(shared_memory::open(std::move(fd), all));
      })[0];
    g.guarded(name(call.kind), [&] { base_ = region_->on_device(); });
    g.exchange(0, call);
  }

  [[nodiscard]] static constexpr std::string_view transport() { return "HostPinned"; }
  [[nodiscard]] static constexpr bool on_host() { return true; }
  /// As this rank's GPU addresses it.
  [[nodiscard]] std::byte* window(int rank) const {
    return base_ + each_ * static_cast<std::size_t>(rank);
  }

  /// As the CPU addresses it.
  [[nodiscard]] std::byte* host_window(int rank) const {
    return region_->data() + each_ * static_cast<std::size_t>(rank);
  }

 private:
  static constexpr std::size_t page = 4096;

  std::size_t each_;
  std::byte* base_ = nullptr;
  std::shared_ptr<detail::registered_memory> region_;
};

}  // namespace tpx
