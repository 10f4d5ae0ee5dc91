// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/topology/topology.hpp>

namespace tpx {

/// Every rank talks to every other: one hop, n-1 messages a rank.
///
/// An all-reduce adds in rank order whatever the size: up to `one_shot_bytes` (on GPUs those of
/// `tuning`) each rank reads all ranks' values and adds them itself (one hop, n-1 times the bytes),
/// above it each rank adds a share and hands it out (two hops, 2(n-1)/n times the bytes).
struct AllPairs {
  static constexpr bool flat = true;
  static constexpr bool rotates = true;
  static constexpr bool rank_order = true;
  static constexpr std::size_t one_shot_bytes = 16384;
  TPX_HD static constexpr int parent(int rank, int root, int) { return rank == root ? -1 : root; }
};
static_assert(topology<AllPairs>);

/// Lets tpx choose. As a topology, results are those of AllPairs: added in rank order whatever the
/// size. As a transport: PeerDirect where all ranks' GPUs reach each other's memory, otherwise
/// HostPinned, the same on every rank.
struct Auto : AllPairs {
  static constexpr bool shared = false;
  template <class Space>
  class memory;
};
static_assert(topology<Auto>);

}  // namespace tpx
