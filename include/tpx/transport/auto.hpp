// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/topology/all_pairs.hpp>
#include <tpx/transport/peer_direct.hpp>

namespace tpx {

/// Ranks on CPUs always reach each other's memory.
template <>
class Auto::memory<Cpu> : public PeerDirect::memory<Cpu> {
 public:
  using PeerDirect::memory<Cpu>::memory;
};

}  // namespace tpx
