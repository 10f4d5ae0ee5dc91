// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_team.cuh>

#include <cuda_runtime_api.h>

namespace tpx::detail {

/// How rows are shared out to blocks.
struct sample_plan {
  unsigned blocks;
  std::uint32_t part = 0;
  std::uint32_t inside = 0;  // of it in shared memory
  unsigned bytes = 0;        // of that
};

/// A cluster's blocks share a row, and a kernel may begin while the one before it ends.
struct sample_launch_config {
  sample_launch_config(sample_plan const& p, unsigned grid, cudaStream_t stream) {
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim = {p.blocks, 1, 1};
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    value.gridDim = dim3{grid};
    value.blockDim = dim3{sample_threads};
    value.dynamicSmemBytes = p.bytes;
    value.stream = stream;
    value.attrs = attributes;
    value.numAttrs = 2;
  }
  sample_launch_config(sample_launch_config&&) = delete;

  cudaLaunchAttribute attributes[2]{};
  cudaLaunchConfig_t value{};
};

}  // namespace tpx::detail
