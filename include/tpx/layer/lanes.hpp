// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/sixteen.hpp>
#include <tpx/number.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tpx::detail {

/// All sums of the layers run in lanes, so a program gives the same bits however many rows or
/// tokens it takes at a time.
using lanes = sixteen<float>;
using int_lanes = sixteen<std::int32_t>;
using uint_lanes = sixteen<std::uint32_t>;

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
  to.load(from);
}

inline void load(lanes& to, bfloat16 const* from) {
  using half = std::uint16_t __attribute__((vector_size(register_bytes / 2)));
  uint_lanes bits;
  uint_lanes::each_part([&](std::size_t i) {
    half upper;
    std::memcpy(&upper, from + i * lane_count / uint_lanes::parts, sizeof(upper));
    bits.p[i] = __builtin_convertvector(upper, uint_lanes::part) << 16;
  });
  to = bits_as<float>(bits);
}

/// The first `n` of sixteen; the others are 0.
template <class T>
void load(lanes& to, T const* from, std::size_t n) {
  T part[lane_count] = {};
  std::memcpy(static_cast<void*>(part), from, n * sizeof(T));
  load(to, part);
}

inline void store(float* to, lanes const& from) {
  from.store(to);
}

inline void store(float* to, lanes const& from, std::size_t n) {
  float all[lane_count];
  from.store(all);
  std::memcpy(to, all, n * sizeof(float));
}

/// Halves are added to halves: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
[[nodiscard]] inline float sum(lanes const& of) {
  return fold(of, [](auto const& a, auto const& b) { return a + b; });
}

[[nodiscard]] inline float largest(lanes const& of) {
  return fold(of, [](auto const& a, auto const& b) { return b > a ? b : a; });
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
  x = bits_as<float>(bits_as<std::uint32_t>(p) + (bits_as<std::uint32_t>(shifted) << 23));
}

/// The same for any x, to 88; under -87 it becomes 0, over 88 e^88.
inline void exp(lanes& x) {
  int_lanes const kept = x > -87.0f;
  x = select(x > 88.0f, 88.0f, x);
  exp_within(x);
  x = bits_as<float>(bits_as<std::int32_t>(x) & kept);
}

}  // namespace tpx::detail
