// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/check.cuh>
#include <tpx/cuda/space.cuh>

#include <atomic>

namespace tpx::detail {

/// Makes a device current for a while.
class current_device {
 public:
  explicit current_device(int device) {
    (void)cudaGetDevice(&before_);
    (void)cudaSetDevice(device);
  }
  current_device(current_device&&) = delete;
  ~current_device() { (void)cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

/// Loads a kernel into the current device's context, once. A first launch would load it too, but
/// may then need the device to itself, which a kernel that waits for a peer keeps busy.
template <class P>
void load_kernel() {
  static std::atomic<std::uint64_t> loaded{0};
  int device = 0;
  cuda_check(cudaGetDevice(&device), "asking for the current device");
  auto const bit = std::uint64_t{1} << (device & 63);
  if ((loaded.load(std::memory_order_acquire) & bit) != 0) { return; }
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, run<P>), "loading a collective's kernel");
  loaded.fetch_or(bit, std::memory_order_acq_rel);
}

/// Blocks of a cluster, if the protocol wants any.
template <class P>
inline constexpr unsigned members_of = [] {
  if constexpr (requires { P::members; }) {
    return unsigned{P::members};
  } else {
    return 1u;
  }
}();

template <class>
__global__ void built_for() {}

/// Whether the current device and the code built for it know clusters of blocks.
inline bool knows_clusters() {
  int device = 0;
  int major = 0;
  cuda_check(cudaGetDevice(&device), "asking for the current device");
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
             "asking what a device can");
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, built_for<void>), "asking what a kernel is for");
  return major >= 9 && attributes.ptxVersion >= 90;
}

/// Launches a protocol's kernel. It may begin while the kernel before it in the stream ends.
template <class P>
void launch_kernel(P const& protocol, unsigned blocks, cudaStream_t stream, device_watch* watch,
                   std::uint64_t limit_ns, std::uint64_t signature) {
  static_assert(tpx::protocol<P, cuda_block>);
  load_kernel<P>();
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {members_of<P>, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3{blocks};
  config.blockDim = dim3{threads_of<P>};
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = members_of<P> == 1 ? 1 : 2;
  cuda_check(cudaLaunchKernelEx(&config, run<P>, protocol, watch, limit_ns, signature),
             "launching a collective's kernel");
}

}  // namespace tpx::detail
