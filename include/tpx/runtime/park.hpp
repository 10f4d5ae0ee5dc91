// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace tpx::detail {

/// Tells the core that this is a spin loop.
inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// CLOCK_MONOTONIC, comparable between the processes of a host.
[[nodiscard]] inline std::uint64_t now_ns() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

/// Sleeps while `word` is `value`, until woken or for `ns`; works across processes.
inline void futex_wait(std::uint32_t& word, std::uint32_t value, std::uint64_t ns) noexcept {
  timespec const t{static_cast<time_t>(ns / 1'000'000'000u),
                   static_cast<long>(ns % 1'000'000'000u)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &t, nullptr, 0);
}

inline void futex_wake(std::uint32_t& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

/// Goes to sleep on a bell unless `ready()` holds after the bell says so.
///
/// No wake-up is lost: both sides exchange the bell's word, so either the waker's exchange comes
/// second and finds 1, or the sleeper's comes second, acquires what the waker released before it,
/// and `ready()` sees it.
template <class Ready>
void sleep_on(std::uint32_t& bell, std::uint64_t ns, Ready&& ready) noexcept {
  std::atomic_ref<std::uint32_t> const asleep{bell};
  asleep.exchange(1, std::memory_order_acq_rel);
  if (!ready()) { futex_wait(bell, 1, ns); }
  asleep.exchange(0, std::memory_order_acq_rel);
}

/// Wakes whoever sleeps on a bell; call it after the store that they wait for.
inline void wake(std::uint32_t& bell) noexcept {
  if (std::atomic_ref<std::uint32_t>{bell}.exchange(0, std::memory_order_acq_rel) == 1) {
    futex_wake(bell);
  }
}

}  // namespace tpx::detail
