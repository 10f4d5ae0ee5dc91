// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <cuda/atomic>
#include <nv/target>

#include <cstdint>

namespace tpx {

/// What a cell holds: 16 bytes of data, all of them the caller's, whatever their type.
struct [[gnu::may_alias]] alignas(16) packet {
  std::uint32_t word[4];
};

/// 16 bytes of shared memory that change hands whole: whoever sees that a cell is not empty has its
/// data, with no flag beside it and no fence. One rank fills it, another empties it.
///
/// On a GPU a cell is one 128-bit access of system scope (PTX ISA, "Memory consistency model":
/// such an access is single-copy atomic; CUDA: also on mapped host memory). On a CPU it is two
/// words of which the upper one, stored with release and loaded with acquire, says whether it is
/// empty.
struct alignas(16) cell {
  std::uint64_t lower;
  std::uint64_t upper;  // empty if its upper half is `nothing`
};

namespace cells {

/// What the last word of an empty cell is. All its bytes are equal, so that memset empties memory.
inline constexpr unsigned char empty_byte = 0x8b;
inline constexpr std::uint32_t nothing = 0x8b8b8b8bu;

/// What is stored instead where the data's last word is `nothing` or this: a byte aside then says
/// which of the two it was.
inline constexpr std::uint32_t masked = 0x8b8b8b8au;

/// Relaxed on a GPU; with release on a CPU.
TPX_HD inline void store(cell& to, packet const& p) {
  NV_IF_ELSE_TARGET(
    NV_IS_DEVICE,
    (asm volatile("{\n\t.reg .b128 v;\n\t.reg .b64 a, b;\n\t"
                  "mov.b64 a, {%1, %2};\n\tmov.b64 b, {%3, %4};\n\tmov.b128 v, {a, b};\n\t"
                  "st.relaxed.sys.global.b128 [%0], v;\n\t}" ::"l"(&to),
                  "r"(p.word[0]), "r"(p.word[1]), "r"(p.word[2]), "r"(p.word[3])
                  : "memory");),
    (using word = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>;
     word{to.lower}.store(std::uint64_t{p.word[1]} << 32 | p.word[0], cuda::memory_order_relaxed);
     word{to.upper}.store(std::uint64_t{p.word[3]} << 32 | p.word[2], cuda::memory_order_release);))
}

/// Empties a cell.
TPX_HD inline void clear(cell& c) {
  store(c, {{nothing, nothing, nothing, nothing}});
}

/// Relaxed on a GPU; with acquire on a CPU, where `lower` means something only if the cell is full.
[[nodiscard]] TPX_HD inline packet load(cell& from) {
  packet p;
  NV_IF_ELSE_TARGET(
    NV_IS_DEVICE,
    (asm volatile("{\n\t.reg .b128 v;\n\t.reg .b64 a, b;\n\t"
                  "ld.relaxed.sys.global.b128 v, [%4];\n\tmov.b128 {a, b}, v;\n\t"
                  "mov.b64 {%0, %1}, a;\n\tmov.b64 {%2, %3}, b;\n\t}"
                  : "=r"(p.word[0]), "=r"(p.word[1]), "=r"(p.word[2]), "=r"(p.word[3])
                  : "l"(&from)
                  : "memory");),
    (using word = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>;
     auto const upper = word{from.upper}.load(cuda::memory_order_acquire);
     auto const lower = word{from.lower}.load(cuda::memory_order_relaxed);
     p = {{static_cast<std::uint32_t>(lower), static_cast<std::uint32_t>(lower >> 32),
           static_cast<std::uint32_t>(upper), static_cast<std::uint32_t>(upper >> 32)}};))
  return p;
}

}  // namespace cells
}  // namespace tpx
