// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>

#include <cudaTypedefs.h>

namespace tpx::detail {

/// What tpx calls of the CUDA driver, found through the CUDA runtime, so that nobody links libcuda.
struct driver_api {
  PFN_cuGetErrorName_v6000 get_error_name = find("cuGetErrorName", 6000);
  PFN_cuGetErrorString_v6000 get_error_string = find("cuGetErrorString", 6000);
  PFN_cuDeviceGetAttribute_v2000 device_get_attribute = find("cuDeviceGetAttribute", 2000);
  PFN_cuDeviceGetUuid_v11040 device_get_uuid = find("cuDeviceGetUuid", 11040);
  PFN_cuMemGetAllocationGranularity_v10020 mem_get_granularity =
    find("cuMemGetAllocationGranularity", 10020);
  PFN_cuMemCreate_v10020 mem_create = find("cuMemCreate", 10020);
  PFN_cuMemRelease_v10020 mem_release = find("cuMemRelease", 10020);
  PFN_cuMemExportToShareableHandle_v10020 mem_export = find("cuMemExportToShareableHandle", 10020);
  PFN_cuMemImportFromShareableHandle_v10020 mem_import =
    find("cuMemImportFromShareableHandle", 10020);
  PFN_cuMemAddressReserve_v10020 mem_reserve = find("cuMemAddressReserve", 10020);
  PFN_cuMemAddressFree_v10020 mem_address_free = find("cuMemAddressFree", 10020);
  PFN_cuMemMap_v10020 mem_map = find("cuMemMap", 10020);
  PFN_cuMemUnmap_v10020 mem_unmap = find("cuMemUnmap", 10020);
  PFN_cuMemSetAccess_v10020 mem_set_access = find("cuMemSetAccess", 10020);

 private:
  struct found {
    void* function;
    template <class F>
    operator F*() const {  // the type is that of the version asked for
      return reinterpret_cast<F*>(function);
    }
  };

  static found find(char const* symbol, unsigned version) {
    found f{};
    auto outcome = cudaDriverEntryPointSymbolNotFound;
    std::string const what = std::string{"looking up "} + symbol + " in the CUDA driver";
    cuda_check(
      cudaGetDriverEntryPointByVersion(symbol, &f.function, version, cudaEnableDefault, &outcome),
      what);
    if (outcome != cudaDriverEntryPointSuccess || f.function == nullptr) {
      throw error{errc::unsupported,
                  what + ": it has none",
                  {.remedy = "install a driver of CUDA 12 or newer"}};
    }
    return f;
  }
};

[[nodiscard]] inline driver_api const& driver() {
  static driver_api const api;
  return api;
}

/// What kind of error a result of the driver is: out_of_memory, unsupported (not on this machine,
/// or not for this process), or cuda.
[[nodiscard]] inline errc driver_errc(CUresult status) noexcept {
  switch (status) {
    case CUDA_SUCCESS:
      return errc::ok;
    case CUDA_ERROR_OUT_OF_MEMORY:
      return errc::out_of_memory;
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_NOT_PERMITTED:
    case CUDA_ERROR_OPERATING_SYSTEM:
      return errc::unsupported;
    default:
      return errc::cuda;
  }
}

/// Throws unless a call of the CUDA driver succeeded: see driver_errc().
inline void driver_check(CUresult status, std::string_view what, error_facts const& known = {},
                         cuda::std::source_location where = cuda::std::source_location::current()) {
  if (status == CUDA_SUCCESS) { return; }
  char const* word = nullptr;
  char const* text = nullptr;
  static_cast<void>(driver().get_error_name(status, &word));
  static_cast<void>(driver().get_error_string(status, &text));
  throw error{driver_errc(status),
              std::string{what} + ": " +
                (word == nullptr ? "driver error " + std::to_string(status) : word) +
                (text == nullptr ? "" : std::string{", "} + text),
              known, where};
}

}  // namespace tpx::detail
