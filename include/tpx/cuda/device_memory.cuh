// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/driver.cuh>
#include <tpx/cuda/environment.cuh>
#include <tpx/cuda/fill.cuh>
#include <tpx/cuda/private_stream.cuh>
#include <tpx/runtime/shared_memory.hpp>

#include <span>
#include <vector>

namespace tpx::detail {

/// Memory of a GPU that GPUs of this process reach at one address, and that other processes can map
/// by its descriptor. Freed when its last mapping and its last descriptor are gone; whoever lets go
/// of a mapping has no kernel left that uses it.
///
/// Made and opened on the current device. Virtual memory management of the CUDA driver API 6.14.
class device_memory {
 public:
  /// Whether the current device has such memory and, if `exported`, descriptors for it. False too
  /// where TPX_VMM_DISABLE=1.
  [[nodiscard]] static bool supported(bool exported) {
    if (switched_on("TPX_VMM_DISABLE")) { return false; }
    return attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) &&
           (!exported ||
            attribute(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED));
  }

  /// `bytes` or a little more, zeroed. `exported`: fd() is a descriptor of it.
  /// Errors: out_of_memory, naming device and bytes; unsupported; cuda.
  [[nodiscard]] static device_memory create(std::size_t bytes, bool exported) {
    int const device = current();
    std::string const what = size_text(bytes) + " of device " + std::to_string(device);
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
    properties.requestedHandleTypes =
      exported ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : CU_MEM_HANDLE_TYPE_NONE;
    std::size_t step = 0;
    driver_check(driver().mem_get_granularity(&step, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                 "asking for the granularity of memory");
    auto const whole = (bytes + step - 1) / step * step;
    allocation made;
    driver_check(driver().mem_create(&made.handle, whole, &properties, 0), "allocating " + what,
                 {.remedy = "lower the communicator's max_bytes, or free GPU memory"});
    device_memory memory{made, whole, step};
    if (exported) {
      int fd = -1;
      driver_check(
        driver().mem_export(&fd, made.handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
        "making a descriptor of " + what);
      memory.fd_ = unique_fd{fd};
      static_cast<void>(::fcntl(fd, F_SETFD, FD_CLOEXEC));
    }
    if (!memory.allow({&device, 1})) {
      throw error{errc::unsupported, "device " + std::to_string(device) +
                                       " does not reach its own memory once it is mapped"};
    }
    memory.clear();
    return memory;
  }

  /// The same, in whole 16 bytes, of a device without virtual memory management: no descriptor, and
  /// another device reaches it only after cudaDeviceEnablePeerAccess().
  [[nodiscard]] static device_memory create_plain(std::size_t bytes) {
    device_memory memory;
    bytes = (bytes + 15) / 16 * 16;
    void* at = nullptr;
    cuda_check(cudaMalloc(&at, bytes),
               "allocating " + size_text(bytes) + " of device " + std::to_string(current()));
    memory.data_ = static_cast<std::byte*>(at);
    memory.bytes_ = bytes;
    memory.clear();
    return memory;
  }

  /// Maps the whole of what another process created, `bytes` of it, for the current device.
  /// Errors: unsupported or cuda, if `fd` is no such memory or this device does not reach it.
  [[nodiscard]] static device_memory open(unique_fd fd, std::size_t bytes) {
    int const device = current();
    std::string const what =
      "a peer's " + size_text(bytes) + " for device " + std::to_string(device);
    allocation got;
    auto* const handle = reinterpret_cast<void*>(static_cast<std::uintptr_t>(fd.get()));
    driver_check(driver().mem_import(&got.handle, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                 "opening " + what);
    device_memory memory{got, bytes, 0};
    if (!memory.allow({&device, 1})) {
      throw error{errc::unsupported, "the driver refuses access to " + what};
    }
    return memory;
  }

  device_memory(device_memory&& other) noexcept
      : data_{std::exchange(other.data_, nullptr)},
        bytes_{other.bytes_},
        reserved_{std::exchange(other.reserved_, false)},
        mapped_{std::exchange(other.mapped_, false)},
        fd_{std::move(other.fd_)} {}
  device_memory& operator=(device_memory&&) = delete;
  ~device_memory() {
    auto const at = reinterpret_cast<CUdeviceptr>(data_);
    if (mapped_) { static_cast<void>(driver().mem_unmap(at, bytes_)); }
    if (reserved_) {
      static_cast<void>(driver().mem_address_free(at, bytes_));
    } else if (data_ != nullptr) {
      static_cast<void>(cudaFree(data_));
    }
  }

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  /// Closes the descriptor; the mapping stays.
  void close_fd() noexcept { fd_ = unique_fd{}; }

  /// Lets devices of this process read and write it, at the same address. False if the driver
  /// refuses; it may then have let some.
  [[nodiscard]] bool allow(std::span<int const> devices) const {
    std::vector<CUmemAccessDesc> all;
    for (int const device : devices) {
      all.push_back({{CU_MEM_LOCATION_TYPE_DEVICE, device}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE});
    }
    auto const status =
      driver().mem_set_access(reinterpret_cast<CUdeviceptr>(data_), bytes_, all.data(), all.size());
    if (driver_errc(status) == errc::out_of_memory) { driver_check(status, "mapping GPU memory"); }
    return status == CUDA_SUCCESS;
  }

 private:
  /// A handle, which a mapping does not need any more once it is made.
  struct allocation {
    allocation() = default;
    allocation(allocation&&) = delete;
    ~allocation() {
      if (handle != 0) { static_cast<void>(driver().mem_release(handle)); }
    }
    CUmemGenericAllocationHandle handle = 0;
  };

  device_memory() = default;

  device_memory(allocation const& memory, std::size_t bytes, std::size_t alignment)
      : device_memory{} {
    CUdeviceptr at = 0;
    driver_check(driver().mem_reserve(&at, bytes, alignment, 0, 0),
                 "reserving addresses for " + size_text(bytes));
    data_ = reinterpret_cast<std::byte*>(at);
    bytes_ = bytes;
    reserved_ = true;
    driver_check(driver().mem_map(at, bytes, 0, memory.handle, 0), "mapping " + size_text(bytes));
    mapped_ = true;
  }

  void clear() const {
    private_stream const stream;
    fill(data_, 0, bytes_, stream.get(), "clearing GPU memory");
    cuda_check(cudaStreamSynchronize(stream.get()), "clearing GPU memory");
  }

  [[nodiscard]] static std::string size_text(std::size_t bytes) {
    return std::to_string(bytes) + " bytes";
  }

  [[nodiscard]] static int current() {
    int device = -1;
    cuda_check(cudaGetDevice(&device), "asking for the current device");
    return device;
  }

  [[nodiscard]] static bool attribute(CUdevice_attribute which) {
    int value = 0;
    return driver().device_get_attribute(&value, which, current()) == CUDA_SUCCESS && value != 0;
  }

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  bool reserved_ = false;
  bool mapped_ = false;
  unique_fd fd_;
};

}  // namespace tpx::detail
