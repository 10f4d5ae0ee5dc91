// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace tpx {

/// bfloat16 storage: the upper half of a float32. Same bytes as CUDA's `__nv_bfloat16`.
struct bfloat16 {
  std::uint16_t bits = 0;

  constexpr bfloat16() = default;

  /// Rounds to nearest, ties to even; every NaN stays a NaN.
  TPX_HD constexpr explicit bfloat16(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if (!__builtin_is_constant_evaluated()) {
      std::uint32_t two = 0;  // F2FP, where the conversion of one alone becomes F2F
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(0.0f), "f"(value));
      bits = static_cast<std::uint16_t>(two);
      return;
    }
#endif
    auto const u = __builtin_bit_cast(std::uint32_t, value);
    bool const nan = (u & 0x7fffffffu) > 0x7f800000u;
    std::uint32_t const rounded = u + 0x7fffu + ((u >> 16) & 1u);
    bits = static_cast<std::uint16_t>((nan ? u | 0x400000u : rounded) >> 16);
  }

  TPX_HD constexpr explicit operator float() const {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
  }

  TPX_HD friend constexpr bool operator==(bfloat16 a, bfloat16 b) {
    return static_cast<float>(a) == static_cast<float>(b);
  }
};

/// IEEE binary16 storage. Same bytes as CUDA's `__half`.
struct float16 {
  std::uint16_t bits = 0;

  constexpr float16() = default;

  /// Rounds to nearest, ties to even; overflow gives infinity; every NaN stays a NaN.
  TPX_HD constexpr explicit float16(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if (!__builtin_is_constant_evaluated()) {
      std::uint32_t two = 0;
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(0.0f), "f"(value));
      bits = static_cast<std::uint16_t>(two);
      return;
    }
#endif
    auto const u = __builtin_bit_cast(std::uint32_t, value);
    std::uint32_t const sign = (u >> 16) & 0x8000u;
    std::uint32_t const magnitude = u & 0x7fffffffu;
    std::uint32_t half = 0;
    if (magnitude > 0x7f800000u) {  // NaN
      half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
      half = 0x7c00u;
    } else if (magnitude >= 0x38800000u) {  // normal: rebias 127 -> 15
      half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    } else if (magnitude > 0x33000000u) {  // subnormal: an integer number of 2^-24
      std::uint32_t const shift = 126u - (magnitude >> 23);  // 14..24 bits go
      std::uint32_t const mantissa = (magnitude & 0x7fffffu) | 0x800000u;
      std::uint32_t const below = mantissa & ((1u << shift) - 1u);
      std::uint32_t const tie = 1u << (shift - 1u);
      half = mantissa >> shift;
      half += static_cast<std::uint32_t>(below > tie || (below == tie && (half & 1u) != 0));
    }
    bits = static_cast<std::uint16_t>(sign | half);
  }

  TPX_HD constexpr explicit operator float() const {
#if defined(__CUDA_ARCH__)
    if (!__builtin_is_constant_evaluated()) {
      float wide = 0;
      asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
      return wide;
    }
#endif
    std::uint32_t const sign = (bits & 0x8000u) << 16;
    std::uint32_t const exponent = (bits >> 10) & 0x1fu;
    std::uint32_t const mantissa = bits & 0x3ffu;
    if (exponent == 0) {
      float const value = static_cast<float>(mantissa) * 0x1p-24f;
      return sign != 0 ? -value : value;
    }
    std::uint32_t const wide = exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23;
    return __builtin_bit_cast(float, sign | wide | (mantissa << 13));
  }

  TPX_HD friend constexpr bool operator==(float16 a, float16 b) {
    return static_cast<float>(a) == static_cast<float>(b);
  }
};

/// 8 bits of the OCP format E4M3 (4 of exponent, 3 of fraction; no infinity; up to 448). Same bytes
/// as CUDA's `__nv_fp8_e4m3`. Source: OCP 8-bit Floating Point Specification 1.0.
struct float8_e4m3 {
  std::uint8_t bits = 0;

  static constexpr float most = 448.0f;

  constexpr float8_e4m3() = default;

  /// Rounds to nearest, ties to even; what is larger than 448 gives 448; every NaN stays a NaN.
  TPX_HD constexpr explicit float8_e4m3(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    if (!__builtin_is_constant_evaluated()) {
      std::uint16_t two = 0;
      asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(two) : "f"(0.0f), "f"(value));
      bits = static_cast<std::uint8_t>(two);
      return;
    }
#endif
    auto const u = __builtin_bit_cast(std::uint32_t, value);
    std::uint32_t const sign = (u >> 24) & 0x80u;
    std::uint32_t const magnitude = u & 0x7fffffffu;
    std::uint32_t small = 0;
    if (magnitude > 0x7f800000u) {  // NaN
      bits = 0x7fu;
      return;
    }
    if (magnitude >= 0x43e00000u) {  // 448 or more
      small = 0x7eu;
    } else if (magnitude >= 0x3c800000u) {  // normal: rebias 127 -> 7
      small = (magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20;
    } else {  // subnormal: an integer number of 2^-9, which 2^14 more in a float end with
      small = __builtin_bit_cast(std::uint32_t, __builtin_bit_cast(float, magnitude) + 0x1p14f);
      small &= 0xfu;
    }
    bits = static_cast<std::uint8_t>(sign | small);
  }

  TPX_HD constexpr explicit operator float() const {
    std::uint32_t const sign = (bits & 0x80u) << 24;
    std::uint32_t const magnitude = bits & 0x7fu;
    if (magnitude < 8) {
      float const value = static_cast<float>(magnitude) * 0x1p-9f;
      return sign != 0 ? -value : value;
    }
    std::uint32_t const wide = magnitude == 0x7fu ? 0x7fc00000u : (magnitude << 20) + 0x3c000000u;
    return __builtin_bit_cast(float, sign | wide);
  }

  TPX_HD friend constexpr bool operator==(float8_e4m3 a, float8_e4m3 b) {
    return static_cast<float>(a) == static_cast<float>(b);
  }
};

/// An element that collectives move: plain bytes, at most 16 of them.
template <class T>
concept element = std::is_trivially_copyable_v<T> && sizeof(T) <= 16;

namespace detail {

template <class T>
concept float_like = requires(T v, float f) {
  static_cast<float>(v);
  static_cast<T>(f);
};

}  // namespace detail

/// What a reduction of T adds in: fp32 for 8- and 16-bit floating types (ours, CUDA's or any other
/// that converts to and from float), T itself for the rest.
template <element T>
using accumulate_t =
  std::conditional_t<sizeof(T) <= 2 && !std::is_integral_v<T> && detail::float_like<T>, float, T>;

/// Names an element type on the wire; types of the user's own share `other`.
enum class dtype : std::uint8_t {
  float32,
  float64,
  float16,
  bfloat16,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  float8_e4m3,
  other
};

template <element T>
[[nodiscard]] constexpr dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) {
    return dtype::float32;
  } else if constexpr (std::is_same_v<T, double>) {
    return dtype::float64;
  } else if constexpr (std::is_same_v<T, float16>) {
    return dtype::float16;
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    return dtype::bfloat16;
  } else if constexpr (std::is_same_v<T, float8_e4m3>) {
    return dtype::float8_e4m3;
  } else if constexpr (std::is_integral_v<T>) {
    constexpr int log2 = std::countr_zero(sizeof(T));
    return static_cast<dtype>(static_cast<int>(std::is_signed_v<T> ? dtype::int8 : dtype::uint8) +
                              log2);
  } else {
    return dtype::other;
  }
}

[[nodiscard]] constexpr std::string_view name(dtype type) {
  constexpr std::string_view names[]{"float32", "float64", "float16",     "bfloat16", "int8",
                                     "int16",   "int32",   "int64",       "uint8",    "uint16",
                                     "uint32",  "uint64",  "float8_e4m3", "other"};
  return names[static_cast<std::uint8_t>(type)];
}

}  // namespace tpx
