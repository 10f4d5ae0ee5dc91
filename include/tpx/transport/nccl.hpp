// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/space.hpp>

namespace tpx {

/// NCCL's own collectives on the caller's or our ncclComm_t: the way out to several hosts. GPUs
/// only; the tpx::nccl target carries the library.
struct Nccl {
  template <class Space>
  class memory;
};

}  // namespace tpx
