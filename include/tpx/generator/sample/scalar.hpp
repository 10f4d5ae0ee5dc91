// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/chunk.hpp>

namespace tpx::detail {

/// e^y for -87 < y <= 0.
[[nodiscard]] TPX_HD inline float mass_within(float y) {
  float const shifted = product(y, 0x1.715476p+0f) + 0x1.8p23f;
  float const n = shifted - 0x1.8p23f;
  float const r = (y - product(n, 0x1.62e4p-1f)) - product(n, 0x1.7f7d1cp-20f);
  float p = product(r, 1.0f / 5040) + 1.0f / 720;
  p = product(p, r) + 1.0f / 120;
  p = product(p, r) + 1.0f / 24;
  p = product(p, r) + 1.0f / 6;
  p = product(p, r) + 0.5f;
  p = product(product(p, r), r) + r + 1.0f;
  return __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, p) +
                                     (__builtin_bit_cast(std::uint32_t, shifted) << 23));
}

/// e^(x - best) for x <= best. fixed_of() it is what the Cpu space counts, bit for bit, where that
/// is compiled without fusing multiplications into additions.
[[nodiscard]] TPX_HD inline float mass_of(float x, float best) {
  float const y = x - best;
  float const mass = mass_within(y);
  return y > -87.0f ? mass : 0.0f;
}

/// A number of units of 2^-40, in two parts of 20 bits: some can be added up before they are put
/// together.
struct fixed_parts {
  std::uint32_t high = 0;
  std::uint32_t low = 0;

  TPX_HD void add(fixed_parts const& other) {
    high += other.high;
    low += other.low;
  }
  [[nodiscard]] TPX_HD std::uint64_t all() const { return (std::uint64_t{high} << 20) + low; }
};

/// A real of 0 to 1 in units of 2^-40, rounded down, as `fixed_lanes` counts it.
[[nodiscard]] TPX_HD inline fixed_parts parts_of(float real) {
#if defined(__CUDA_ARCH__)
  // What is added to 2^23 and rounded down is a whole number in the lower bits.
  float const high = __fmaf_rz(real, 0x1p20f, 0x1p23f);
  float const rest = __fmaf_rz(real, 0x1p20f, 0x1p23f - high);
  float const low = __fmaf_rz(rest, 0x1p20f, 0x1p23f);
  return {__float_as_uint(high) & 0x7fffffu, __float_as_uint(low) & 0x7fffffu};
#else
  auto const high = static_cast<std::uint32_t>(real * 0x1p20f);
  float const rest = real * 0x1p20f - static_cast<float>(high);
  return {high, static_cast<std::uint32_t>(rest * 0x1p20f)};
#endif
}
[[nodiscard]] TPX_HD inline std::uint64_t fixed_of(float real) {
  return parts_of(real).all();
}

/// parts_of(mass_of()): less than 2^-40 is nothing.
[[nodiscard]] TPX_HD inline fixed_parts mass_parts(float x, float best) {
  float const y = x - best;
  return parts_of(mass_within(y > -80.0f ? y : -80.0f));
}

/// What these do for sixteen lanes; x <= 0.
TPX_HD inline void exp_or_zero(float& x) {
  x = mass_of(x, 0);
}
TPX_HD inline void absolute(float& x) {
  x = x < 0 ? -x : x;
}

}  // namespace tpx::detail
