// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <memory>
#if !defined(__x86_64__)
#  include <ucontext.h>
#endif

// Present when the program runs under a sanitizer, which must be told that stacks are switched.
extern "C" {
void* __tsan_get_current_fiber() __attribute__((weak));
void* __tsan_create_fiber(unsigned) __attribute__((weak));
void __tsan_destroy_fiber(void*) __attribute__((weak));
void __tsan_switch_to_fiber(void*, unsigned) __attribute__((weak));
void __tsan_acquire(void*) __attribute__((weak));
void __tsan_release(void*) __attribute__((weak));
void __sanitizer_start_switch_fiber(void**, void const*, std::size_t) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void*, void const**, std::size_t*) __attribute__((weak));
}

namespace explore {

#if defined(__x86_64__)
// Saves what a called function must keep, and the stack, then takes the other's. A system call a
// switch, as swapcontext makes, would be most of a run's time.
extern "C" void tpx_explore_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
.type tpx_explore_switch, @function
tpx_explore_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tpx_explore_switch, .-tpx_explore_switch
)");
#endif

/// A stack and where its program stands. The one made without a stack is the caller's own.
class stack {
 public:
  stack() {
    if (__tsan_get_current_fiber != nullptr) { tsan_ = __tsan_get_current_fiber(); }
  }
  explicit stack(void (*main)()) : memory_{new std::byte[bytes]} {
    if (__tsan_create_fiber != nullptr) { tsan_ = __tsan_create_fiber(0); }
#if defined(__x86_64__)
    auto** top = reinterpret_cast<void**>(memory_.get() + bytes);
    *--top = nullptr;  // where main would return to; also aligns its frame
    *--top = reinterpret_cast<void*>(main);
    for (int i = 0; i < 6; ++i) { *--top = nullptr; }
    at_ = top;
#else
    getcontext(&at_);
    at_.uc_stack.ss_sp = memory_.get();
    at_.uc_stack.ss_size = bytes;
    makecontext(&at_, main, 0);
#endif
  }
  stack(stack&&) = delete;
  ~stack() {
    if (memory_ && __tsan_destroy_fiber != nullptr) { __tsan_destroy_fiber(tsan_); }
  }

  /// Goes on where `to` stands; returns when somebody goes on here.
  void switch_to(stack& to) {
    void* fake = nullptr;
    if (__sanitizer_start_switch_fiber != nullptr) {
      __sanitizer_start_switch_fiber(&fake, to.bottom_, to.size_);
    }
    if (__tsan_switch_to_fiber != nullptr) { __tsan_switch_to_fiber(to.tsan_, 1); }
    came_from = this;
#if defined(__x86_64__)
    tpx_explore_switch(&at_, to.at_);
#else
    swapcontext(&at_, &to.at_);
#endif
    arrived(fake);
  }

  /// To be called first on a new stack.
  static void arrived(void* fake = nullptr) {
    if (__sanitizer_finish_switch_fiber != nullptr) {
      __sanitizer_finish_switch_fiber(fake, &came_from->bottom_, &came_from->size_);
    }
  }

 private:
  static constexpr std::size_t bytes = 256 * 1024;
  static inline stack* came_from = nullptr;

  std::unique_ptr<std::byte[]> memory_;
  void const* bottom_ = memory_.get();
  std::size_t size_ = memory_ ? bytes : 0;
  void* tsan_ = nullptr;
#if defined(__x86_64__)
  void* at_ = nullptr;
#else
  ucontext_t at_{};
#endif
};

}  // namespace explore
