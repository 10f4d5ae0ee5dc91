// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <atomic>
#include <cstdint>
#include <pthread.h>

namespace tpx::detail {

inline std::atomic<std::uint32_t> forks{0};

/// How often this process is a fork of the one that first asked: what a child inherited from its
/// parent shows by an older count. One load; the first call registers a pthread_atfork(3) handler.
[[nodiscard]] inline std::uint32_t fork_count() noexcept {
  static int const registered = ::pthread_atfork(nullptr, nullptr, [] { ++forks; });
  static_cast<void>(registered);
  return forks.load(std::memory_order_relaxed);
}

}  // namespace tpx::detail
