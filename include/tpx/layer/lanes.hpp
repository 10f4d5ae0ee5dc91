// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/number.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tpx::detail {

/// Sixteen floats side by side: one register of AVX-512, two of AVX, four of SSE2 or NEON. All sums
/// of the layers run in lanes of this width, so a program gives the same bits however many rows or
/// tokens it takes at a time. Passed by reference: by value, the ABI depends on compiler flags.
using lanes = float __attribute__((vector_size(64)));
using int_lanes = std::int32_t __attribute__((vector_size(64)));
using uint_lanes = std::uint32_t __attribute__((vector_size(64)));
using half_lanes = std::uint16_t __attribute__((vector_size(32)));

inline constexpr std::size_t lane_count = 16;

/// How many sums of lanes a kernel keeps in registers.
#if defined(__AVX512F__)
inline constexpr std::size_t sums_at_once = 8;
#elif defined(__AVX__)
inline constexpr std::size_t sums_at_once = 4;
#else
inline constexpr std::size_t sums_at_once = 2;
#endif

/// `n` rounded up to whole lanes.
[[nodiscard]] constexpr std::size_t whole_lanes(std::size_t n) {
  return (n + lane_count - 1) / lane_count * lane_count;
}

inline void load(lanes& to, float const* from) {
  std::memcpy(&to, from, sizeof(to));
}

inline void load(lanes& to, bfloat16 const* from) {
  half_lanes upper;
  std::memcpy(&upper, from, sizeof(upper));
  int_lanes const bits = __builtin_convertvector(upper, int_lanes) << 16;
  std::memcpy(&to, &bits, sizeof(to));
}

/// The first `n` of sixteen; the others are 0.
template <class T>
void load(lanes& to, T const* from, std::size_t n) {
  T part[lane_count] = {};
  std::memcpy(static_cast<void*>(part), from, n * sizeof(T));
  load(to, part);
}

inline void store(float* to, lanes const& from) {
  std::memcpy(to, &from, sizeof(from));
}

inline void store(float* to, lanes const& from, std::size_t n) {
  std::memcpy(to, &from, n * sizeof(float));
}

/// Halves are added to halves: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
[[nodiscard]] inline float sum(lanes const& of) {
  using eight = float __attribute__((vector_size(32)));
  using four = float __attribute__((vector_size(16)));
  eight e[2];
  std::memcpy(e, &of, sizeof(e));
  e[0] += e[1];
  four f[2];
  std::memcpy(f, e, sizeof(f));
  f[0] += f[1];
  return (f[0][0] + f[0][2]) + (f[0][1] + f[0][3]);
}

[[nodiscard]] inline float largest(lanes const& of) {
  using eight = float __attribute__((vector_size(32)));
  using four = float __attribute__((vector_size(16)));
  eight e[2];
  std::memcpy(e, &of, sizeof(e));
  e[0] = e[1] > e[0] ? e[1] : e[0];
  four f[2];
  std::memcpy(f, e, sizeof(f));
  f[0] = f[1] > f[0] ? f[1] : f[0];
  float const a = f[0][0] > f[0][1] ? f[0][0] : f[0][1];
  float const b = f[0][2] > f[0][3] ? f[0][2] : f[0][3];
  return a > b ? a : b;
}

/// x, which lies between -87 and 88, becomes e^x, to 2 units in the last place.
///
/// e^x = 2^n e^r, |r| <= ln(2)/2. Source: Cody and Waite, Software Manual for the Elementary
/// Functions (1980), chapter 6; e^r by its Taylor series of degree 7.
inline void exp_within(lanes& x) {
  lanes const shifted = x * 0x1.715476p+0f + 0x1.8p23f;  // n in the low bits of the mantissa
  lanes const n = shifted - 0x1.8p23f;
  lanes const r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;  // ln 2 in two parts
  lanes p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  uint_lanes exponent;
  uint_lanes bits;
  std::memcpy(&exponent, &shifted, sizeof(exponent));
  std::memcpy(&bits, &p, sizeof(bits));
  bits += exponent << 23;
  std::memcpy(&x, &bits, sizeof(x));
}

/// The same for any x, to 88; under -87 it becomes 0, over 88 e^88.
inline void exp(lanes& x) {
  int_lanes const kept = x > -87.0f;
  lanes top = {};  // nvcc's front end takes no lanes{} + 88
  top += 88.0f;
  x = x > top ? top : x;
  exp_within(x);
  int_lanes bits;
  std::memcpy(&bits, &x, sizeof(bits));
  bits &= kept;
  std::memcpy(&x, &bits, sizeof(x));
}

}  // namespace tpx::detail
