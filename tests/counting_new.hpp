// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

/// How often the calling thread has allocated. Replaces operator new: one source of a program
/// includes it.
inline thread_local std::size_t allocations = 0;

namespace counting {

// Not inlined, or g++ 12 takes new and delete for a pair that does not match.
[[gnu::noinline]] inline void* take(std::size_t bytes,
                                    std::size_t alignment = alignof(std::max_align_t)) {
  ++allocations;
  void* const p = std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
  if (p == nullptr) { throw std::bad_alloc{}; }
  return p;
}

}  // namespace counting

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return counting::take(bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counting::take(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}
