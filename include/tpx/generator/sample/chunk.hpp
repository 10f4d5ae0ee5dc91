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

using uint_lanes = std::uint32_t __attribute__((vector_size(64)));

inline void fill(lanes& x, float value) {
  lanes zero = {};
  zero += value;  // -0 becomes +0
  x = zero;
}

inline void raise(lanes& most, lanes const& to) {
  most = to > most ? to : most;
}

/// Logits that are not to be kept become -infinity.
inline void keep(lanes& logits, int_lanes const& kept) {
  lanes none;
  fill(none, no_logit);
  logits = kept != 0 ? logits : none;
}

/// Reals that are not to be kept become 0.
inline void keep_or_zero(lanes& x, int_lanes const& kept) {
  int_lanes bits;
  std::memcpy(&bits, &x, sizeof(bits));
  bits &= kept;
  std::memcpy(&x, &bits, sizeof(bits));
}

inline void absolute(lanes& x) {
  int_lanes bits;
  std::memcpy(&bits, &x, sizeof(bits));
  bits &= std::numeric_limits<std::int32_t>::max();
  std::memcpy(&x, &bits, sizeof(bits));
}

[[nodiscard]] inline bool any(int_lanes const& truths) {
  using eight = std::int32_t __attribute__((vector_size(32)));
  using two = std::uint64_t __attribute__((vector_size(16)));
  eight e[2];
  std::memcpy(e, &truths, sizeof(e));
  e[0] |= e[1];
  two f[2];
  std::memcpy(f, e, sizeof(f));
  f[0] |= f[1];
  return (f[0][0] | f[0][1]) != 0;
}

/// The same as `largest`, in three steps of halves.
[[nodiscard]] inline float greatest(lanes const& of) {
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

[[nodiscard]] inline std::uint64_t sum(int_lanes const& of) {
  using eight = std::int32_t __attribute__((vector_size(32)));
  using four = std::int32_t __attribute__((vector_size(16)));
  eight e[2];
  std::memcpy(e, &of, sizeof(e));
  e[0] += e[1];
  four f[2];
  std::memcpy(f, e, sizeof(f));
  f[0] += f[1];
  return static_cast<std::uint64_t>((f[0][0] + f[0][2]) + (f[0][1] + f[0][3]));
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

[[nodiscard]] TPX_HD inline float from_order_key(std::uint32_t key) {
  return __builtin_bit_cast(float, key ^ ((key >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

/// Reals of 0 to 1 as integers in units of 2^-40, in two parts of 20 bits. Sums of integers are the
/// same in any order, so that a row of logits can be cut over ranks anywhere.
struct fixed_lanes {
  int_lanes high = {};
  int_lanes low = {};

  /// Adds sixteen reals, rounded down; at most 16 times.
  void add(lanes const& reals) {
    lanes const scaled = reals * 0x1p20f;
    int_lanes const whole = __builtin_convertvector(scaled, int_lanes);
    lanes const rest = (scaled - __builtin_convertvector(whole, lanes)) * 0x1p20f;
    high += whole;
    low += __builtin_convertvector(rest, int_lanes);
  }

  void split(std::uint64_t (&to)[lane_count]) const {
    std::uint32_t h[lane_count];
    std::uint32_t l[lane_count];
    std::memcpy(h, &high, sizeof(h));
    std::memcpy(l, &low, sizeof(l));
    for (std::size_t i = 0; i < lane_count; ++i) { to[i] = (std::uint64_t{h[i]} << 20) + l[i]; }
  }

  [[nodiscard]] std::uint64_t total() const { return (sum(high) << 20) + sum(low); }
};

inline constexpr double fixed_one = 0x1p40;

/// x becomes e^x, or 0 far below 0: -infinity too, for which `exp` alone has no exponent.
inline void exp_or_zero(lanes& x) {
  lanes least;
  fill(least, -88.0f);
  raise(least, x);
  x = least;
  exp(x);
}

/// Logits become e^(logit - best), unnormalised probabilities.
inline void to_mass(lanes& logits, float best) {
  logits -= best;
  exp_or_zero(logits);
}

/// x[0] becomes the mass of the logits x[0], and x[1] that times how far they are under the best.
template <std::size_t N>
void mass_and_depth(lanes (&x)[N], float best) {
  lanes const depth = best - x[0];
  to_mass(x[0], best);
  x[1] = depth * x[0];
  keep_or_zero(x[1], x[0] > 0.0f);  // infinity * 0
}

/// Of one logit, in units of 2^-40: bit for bit what it is among others.
[[nodiscard]] inline std::uint64_t fixed_mass(float logit, float best) {
  lanes x;
  fill(x, logit);
  to_mass(x, best);
  fixed_lanes sums;
  sums.add(x);
  return sums.total() / lane_count;
}

}  // namespace tpx::detail
