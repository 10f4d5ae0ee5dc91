// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/layer/lanes.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace tpx::detail {

/// A row of logits is cut into chunks of 256 tokens that start at multiples of 256, and a chunk
/// into 16 blocks: block b has the tokens b, b + 16, b + 32, ... of it, one in each of the chunk's
/// 16 rows of lanes, so that an operation on rows is one on blocks side by side.
inline constexpr std::size_t chunk_size = 256;
inline constexpr std::size_t chunk_rows = chunk_size / lane_count;

inline constexpr float no_logit = -std::numeric_limits<float>::infinity();

struct alignas(64) chunk {
  float logits[chunk_size];
};
struct alignas(64) block_maxima {
  float logits[lane_count];
};

inline void raise(lanes& most, lanes const& to) {
  most = select(to > most, to, most);
}

/// Logits that are not to be kept become -infinity.
inline void keep(lanes& logits, int_lanes const& kept) {
  logits = select(kept, logits, no_logit);
}

/// Reals that are not to be kept become 0.
inline void keep_or_zero(lanes& x, int_lanes const& kept) {
  x = bits_as<float>(bits_as<std::int32_t>(x) & kept);
}

inline void absolute(lanes& x) {
  x = bits_as<float>(bits_as<std::int32_t>(x) & std::numeric_limits<std::int32_t>::max());
}

[[nodiscard]] inline bool any(int_lanes const& truths) {
  return fold(truths, [](auto const& a, auto const& b) { return a | b; }) != 0;
}

/// a * b, rounded before anything is added to it: a GPU's compiler would fuse the two.
[[nodiscard]] TPX_HD inline float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
[[nodiscard]] TPX_HD inline double product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

/// ln x. On a GPU not in line: code that is fetched for each use costs more than a call.
#if defined(__CUDACC__)
__noinline__
#endif
  [[nodiscard]] TPX_HD inline double
  ln(double x) {
  return std::log(x);
}

/// Integers in the order of the floats they stand for; -0 is +0.
[[nodiscard]] TPX_HD inline std::uint32_t order_key(float value) {
  auto const bits = __builtin_bit_cast(std::uint32_t, value + 0.0f);
  return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}

[[nodiscard]] inline uint_lanes order_keys(lanes const& values) {
  auto const bits = bits_as<std::int32_t>(values + 0.0f);
  return bits_as<std::uint32_t>(bits ^ ((bits >> 31) | std::numeric_limits<std::int32_t>::min()));
}

[[nodiscard]] TPX_HD inline float from_order_key(std::uint32_t key) {
  return __builtin_bit_cast(float, key ^ ((key >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

/// Reals of 0 to 1 as integers in units of 2^-40, in two parts of 20 bits. Sums of integers are the
/// same in any order, so that a row of logits can be cut over ranks anywhere. Takes those of 127
/// chunks before it is full.
struct fixed_lanes {
  static constexpr std::size_t most_chunks = 127;

  int_lanes high = {};
  int_lanes low = {};

  /// Adds sixteen reals, rounded down.
  void add(lanes const& reals) {
    lanes const scaled = reals * 0x1p20f;
    int_lanes const whole = convert<std::int32_t>(scaled);
    lanes const rest = (scaled - convert<float>(whole)) * 0x1p20f;
    high += whole;
    low += convert<std::int32_t>(rest);
  }

  void add(fixed_lanes const& others) {
    high += others.high;
    low += others.low;
  }
  /// Adds those of `others` that are to be kept.
  void add(fixed_lanes const& others, int_lanes const& kept) {
    if constexpr (register_bytes == 64) {  // one masked addition each
      high = select(kept, high + others.high, high);
      low = select(kept, low + others.low, low);
    } else {
      high += others.high & kept;
      low += others.low & kept;
    }
  }

  void split(std::uint64_t* to) const {
    using half = std::uint32_t __attribute__((vector_size(register_bytes / 2)));
    using wide = std::uint64_t __attribute__((vector_size(register_bytes)));
    constexpr std::size_t halves = 2 * int_lanes::parts;
    half h[halves];
    half l[halves];
    high.store(h);
    low.store(l);
    for (std::size_t i = 0; i < halves; ++i) {
      wide const all =
        (__builtin_convertvector(h[i], wide) << 20) + __builtin_convertvector(l[i], wide);
      std::memcpy(to + i * lane_count / halves, &all, sizeof(all));
    }
  }

  [[nodiscard]] std::uint64_t total() const {
    std::uint64_t each[lane_count];
    split(each);
    std::uint64_t sum = 0;
    for (auto const part : each) { sum += part; }
    return sum;
  }
};

inline constexpr double fixed_one = 0x1p40;

/// x becomes e^x, or 0 far below 0: -infinity too, for which `exp` alone has no exponent.
inline void exp_or_zero(lanes& x) {
  lanes least = -88.0f;
  raise(least, x);
  x = least;
  exp(x);
}

/// Logits become e^(logit - best), unnormalised probabilities; e^-80 where that is less.
inline void to_mass(lanes& logits, float best) {
  lanes least = best * 0.0f - 80.0f;  // of a constant, g++ 12 takes no maximum in one instruction
  logits -= best;
  raise(least, logits);
  logits = least;
  exp_within(logits);
}

/// x[0] becomes the mass of the logits x[0], and x[1] that times how far they are under the best.
template <std::size_t N>
void mass_and_depth(lanes (&x)[N], float best) {
  lanes const depth = best - x[0];
  to_mass(x[0], best);
  x[1] = depth * x[0];
  keep_or_zero(x[1], depth < 80.0f);
}

/// Of one logit, in units of 2^-40: bit for bit what it is among others.
[[nodiscard]] inline std::uint64_t fixed_mass(float logit, float best) {
  lanes x = logit;
  to_mass(x, best);
  fixed_lanes sums;
  sums.add(x);
  return sums.total() / lane_count;
}

}  // namespace tpx::detail
