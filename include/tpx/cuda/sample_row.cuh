// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_team.cuh>
#include <tpx/generator/sample/noise.hpp>
#include <tpx/generator/sample/scalar.hpp>
#include <tpx/number.hpp>

namespace tpx {

/// How a row went.
enum class sample_status : std::uint32_t {
  ok,
  not_a_number,     ///< a logit that is not a number, or over 1e30
  nothing_allowed,  ///< all tokens are masked, banned or -infinity
};

namespace detail {

/// A token of the history, and what its occurrences come to.
struct seen_token {
  token_id token;
  float most;
  float sum;
};

/// std::array is of the CPU.
struct three_sums {
  std::uint64_t value[3];
  __device__ std::uint64_t& operator[](unsigned i) { return value[i]; }
  __device__ std::uint64_t operator[](unsigned i) const { return value[i]; }
};

/// A token of a row, which a thread has if there are more than its number.
struct collected_token {
  float raw = no_logit;
  std::uint32_t token = 0;
  std::uint32_t count = 0;
};

/// The logits of a row that one block has: tokens [begin, begin + count), count a multiple of 256,
/// -infinity beyond the row; or `count` tokens that are left of the whole row.
struct sample_part {
  float* logits;
  float* reach;                         // count / 16, for draws
  std::uint32_t const* left = nullptr;  // the tokens that are
  std::uint32_t begin;
  std::uint32_t count;

  [[nodiscard]] __device__ std::uint32_t token(std::uint32_t i) const {
    return left != nullptr ? left[i] : begin + i;
  }
};

/// Four logits at a time.
[[nodiscard]] __device__ inline float4 load_four(float const* from) {
  return __ldg(reinterpret_cast<float4 const*>(from));
}
[[nodiscard]] __device__ inline float4 load_four(bfloat16 const* from) {
  uint2 const two = __ldg(reinterpret_cast<uint2 const*>(from));
  return {__uint_as_float(two.x << 16), __uint_as_float(two.x & 0xffff0000u),
          __uint_as_float(two.y << 16), __uint_as_float(two.y & 0xffff0000u)};
}

/// A row of logits in global memory. Tokens from `end` on, and those that the mask forbids, are no
/// candidates; logits up to `there` can be read.
template <class T>
struct logits_view {
  T const* logits;
  std::uint32_t there;
  std::uint32_t end;
  std::uint32_t const* mask;  // null: all are allowed

  /// Whether four logits can be loaded at once.
  [[nodiscard]] __device__ bool whole(std::uint32_t token) const {
    return token + 4 <= there && reinterpret_cast<std::uintptr_t>(logits) % (4 * sizeof(T)) == 0;
  }
  /// Before mask and end; -infinity for what is not there. `token` is a multiple of 4.
  [[nodiscard]] __device__ float4 four(std::uint32_t token) const {
    if (whole(token)) { return load_four(logits + token); }
    auto const one = [&](std::uint32_t t) {
      return t < there ? static_cast<float>(logits[t]) : no_logit;
    };
    return {one(token), one(token + 1), one(token + 2), one(token + 3)};
  }
  /// A bit for each of four tokens.
  [[nodiscard]] __device__ std::uint32_t allowed(std::uint32_t token) const {
    if (token >= end) { return 0; }
    std::uint32_t const bits = mask == nullptr ? 15u : __ldg(mask + token / 32) >> token % 32;
    return end - token < 4 ? bits & ((1u << (end - token)) - 1) : bits;
  }
};

/// The largest of logits that go by, and whether one is not a number.
struct running_best {
  float most = no_logit;
  bool nan = false;

  __device__ void add(float x) {
    nan = nan || x != x;
    most = fmaxf(most, x);
  }
  __device__ void add(float4 const& x) {
    add(x.x);
    add(x.y);
    add(x.z);
    add(x.w);
  }
  /// In the order of floats, and not a number above all.
  [[nodiscard]] __device__ std::uint32_t key() const { return nan ? ~0u : order_key(most); }
};

/// Copies a part of a row to where it is worked on, and looks at it on the way.
template <class T>
[[nodiscard]] __device__ running_best take_part(logits_view<T> const& row,
                                                sample_part const& part) {
  constexpr unsigned at_once = 4;
  running_best best;
  for (unsigned i = threadIdx.x * 4; i < part.count; i += at_once * sample_threads * 4) {
    float4 x[at_once];
    std::uint32_t allowed[at_once];
    TPX_UNROLL
    for (unsigned k = 0; k < at_once; ++k) {  // all on the way before the first is looked at
      unsigned const token = part.begin + i + k * sample_threads * 4;
      allowed[k] = row.allowed(token);
      if (row.whole(token)) { x[k] = load_four(row.logits + token); }
    }
    TPX_UNROLL
    for (unsigned k = 0; k < at_once; ++k) {
      unsigned const at = i + k * sample_threads * 4;
      if (at >= part.count) { break; }
      if (!row.whole(part.begin + at)) { x[k] = row.four(part.begin + at); }
      if ((allowed[k] & 1) == 0) { x[k].x = no_logit; }
      if ((allowed[k] & 2) == 0) { x[k].y = no_logit; }
      if ((allowed[k] & 4) == 0) { x[k].z = no_logit; }
      if ((allowed[k] & 8) == 0) { x[k].w = no_logit; }
      best.add(x[k]);
      *reinterpret_cast<float4*>(part.logits + at) = x[k];
    }
  }
  return best;
}

}  // namespace detail
}  // namespace tpx
