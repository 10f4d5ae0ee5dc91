// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/chunk.hpp>

namespace tpx::detail {

/// e^(x - best) for x <= best. fixed_of() it is what the Cpu space counts, bit for bit, where that
/// is compiled without fusing multiplications into additions.
[[nodiscard]] TPX_HD inline float mass_of(float x, float best) {
  float const y = x - best;
  float const shifted = product(y, 0x1.715476p+0f) + 0x1.8p23f;
  float const n = shifted - 0x1.8p23f;
  float const r = (y - product(n, 0x1.62e4p-1f)) - product(n, 0x1.7f7d1cp-20f);
  float p = product(r, 1.0f / 5040) + 1.0f / 720;
  p = product(p, r) + 1.0f / 120;
  p = product(p, r) + 1.0f / 24;
  p = product(p, r) + 1.0f / 6;
  p = product(p, r) + 0.5f;
  p = product(product(p, r), r) + r + 1.0f;
  std::uint32_t const bits =
    __builtin_bit_cast(std::uint32_t, p) + (__builtin_bit_cast(std::uint32_t, shifted) << 23);
  return y > -87.0f ? __builtin_bit_cast(float, bits) : 0.0f;
}

/// A real of 0 to 1 in units of 2^-40, rounded down, as `fixed_lanes` counts it.
[[nodiscard]] TPX_HD inline std::uint64_t fixed_of(float real) {
#if defined(__CUDA_ARCH__)
  // 20 bits and 20 bits: what is added to 2^23 and rounded down is a whole number.
  float const high = __fmaf_rz(real, 0x1p20f, 0x1p23f);
  float const rest = __fmaf_rz(real, 0x1p20f, 0x1p23f - high);
  float const low = __fmaf_rz(rest, 0x1p20f, 0x1p23f);
  return std::uint64_t{__float_as_uint(high) & 0x7fffffu} * (1u << 20) +
         (__float_as_uint(low) & 0x7fffffu);
#else
  auto const bits = __builtin_bit_cast(std::uint32_t, real);
  std::uint32_t const down = 127 - (bits >> 23);
  return std::uint64_t{(bits & 0x7fffffu) | 0x800000u} << 17 >> (down < 63 ? down : 63);
#endif
}

/// What these do for sixteen lanes; x <= 0.
TPX_HD inline void exp_or_zero(float& x) {
  x = mass_of(x, 0);
}
TPX_HD inline void absolute(float& x) {
  x = x < 0 ? -x : x;
}

}  // namespace tpx::detail
