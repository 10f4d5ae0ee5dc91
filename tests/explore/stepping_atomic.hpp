// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace explore {

/// Whether the run under way has steps at atomic accesses: see `memory` in explorer.hpp.
extern bool stepping;

void before_load(void const* at, std::size_t bytes);

/// Whether the scheduler has taken the store, to carry it out now or later.
[[nodiscard]] bool take_store(void* at, std::size_t bytes, std::uint64_t value, bool release);

}  // namespace explore

/// As much of <cuda/atomic> as the protocols use, such that every access may be a step of a
/// schedule. Their headers need not know.
namespace cuda {

enum thread_scope { thread_scope_system, thread_scope_device, thread_scope_block };
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;

template <class T, thread_scope = thread_scope_system>
class atomic_ref {
 public:
  explicit atomic_ref(T& at) : at_{&at} {}

  [[nodiscard]] T load(std::memory_order order) const {
    if (explore::stepping) { explore::before_load(at_, sizeof(T)); }
    return std::atomic_ref<T>{*at_}.load(order);
  }
  void store(T value, std::memory_order order) const {
    if (explore::stepping &&
        explore::take_store(at_, sizeof(T), value, order == memory_order_release)) {
      return;
    }
    std::atomic_ref<T>{*at_}.store(value, order);
  }

 private:
  T* at_;
};

}  // namespace cuda
