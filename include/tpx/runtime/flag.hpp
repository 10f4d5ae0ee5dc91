// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/space.hpp>

#include <cuda/atomic>

#include <cstdint>

namespace tpx {

/// A word that one rank raises and one rank waits for. It only grows.
using flag_ref = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>;

/// Raises a flag that rank `peer` waits for: all that this thread wrote, and all that threads it
/// synchronised with wrote, is visible to whoever then sees the flag.
template <thread_group G>
TPX_HD void signal(G const& group, std::uint64_t& flag, std::uint64_t value, int peer) {
  flag_ref{flag}.store(value, cuda::memory_order_release);
  group.ring(peer);
}

/// Waits until rank `peer` has raised a flag to `value` or more. False: the group's waiting rules
/// ended the wait, and nothing behind the flag may be read.
template <thread_group G>
[[nodiscard]] TPX_HD bool wait(G const& group, std::uint64_t& flag, std::uint64_t value, int peer) {
  for (unsigned polls = 0; flag_ref{flag}.load(cuda::memory_order_acquire) < value; ++polls) {
    if (!group.pause(polls, flag, value, peer)) { return false; }
  }
  return true;
}

}  // namespace tpx
