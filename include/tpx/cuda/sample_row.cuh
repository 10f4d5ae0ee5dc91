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

/// The logits of a row that one block has: tokens [begin, begin + count), -infinity beyond the row,
/// the first `inside` of them in shared memory and the rest, from a multiple of part_stride on, in
/// global; all are multiples of 256. Or
/// `count` tokens that are left of the whole row, one a thread.
struct sample_part {
  float* logits;
  float* outside = nullptr;
  float* reach = nullptr;               // count / 16, for draws
  std::uint32_t const* left = nullptr;  // the tokens that are
  std::uint32_t begin = 0;
  std::uint32_t count;
  std::uint32_t inside;

  [[nodiscard]] __device__ float* at(std::uint32_t i) const {
    return i < inside ? logits + i : outside + (i - inside);
  }
};

/// Threads have tokens by four.
inline constexpr unsigned part_stride = 4 * sample_threads;

/// Four logits at a time.
[[nodiscard]] __device__ inline float4 widen(float4 const& x) {
  return x;
}
[[nodiscard]] __device__ inline float4 widen(uint2 const& two) {
  return {__uint_as_float(two.x << 16), __uint_as_float(two.x & 0xffff0000u),
          __uint_as_float(two.y << 16), __uint_as_float(two.y & 0xffff0000u)};
}
template <class T>
using packed_four = std::conditional_t<sizeof(T) == 4, float4, uint2>;

template <class T>
[[nodiscard]] __device__ packed_four<T> load_four(T const* from) {
  return __ldg(reinterpret_cast<packed_four<T> const*>(from));
}

/// Brings four logits to shared memory, some time before `wait_for_copies`.
template <class T>
__device__ void copy_four(float* to, T const* from) {
  if constexpr (sizeof(T) == 4) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(to)), "l"(from)
                 : "memory");
  }
}
__device__ inline void end_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Of this thread, but for those that ended last.
__device__ inline void wait_for_copies(unsigned but) {
  if (but == 0) {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
  } else if (but == 1) {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
  } else {
    asm volatile("cp.async.wait_group 2;" ::: "memory");
  }
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
    if (whole(token)) { return widen(load_four(logits + token)); }
    auto const one = [&](std::uint32_t t) {
      return t < there ? static_cast<float>(logits[t]) : no_logit;
    };
    return {one(token), one(token + 1), one(token + 2), one(token + 3)};
  }
  /// 32 tokens' bits of the mask; `token` is a multiple of 32.
  [[nodiscard]] __device__ std::uint32_t bits(std::uint32_t token) const {
    if (token >= end) { return 0; }
    std::uint32_t const all = mask == nullptr ? ~0u : __ldg(mask + token / 32);
    return end - token < 32 ? all & ((1u << (end - token)) - 1) : all;
  }
};

/// The largest of logits that go by, and whether one is not a number.
struct running_best {
  float most = no_logit;
  bool nan = false;

  __device__ void add(float x) { asm("max.NaN.f32 %0, %0, %1;" : "+f"(most) : "f"(x)); }
  __device__ void add(float4 const& x) {
    float other;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(other) : "f"(x.x), "f"(x.y));
    add(x.z);
    add(x.w);
    add(other);
  }
  [[nodiscard]] __device__ bool spoiled() const { return nan || most != most; }
  /// In the order of floats, and not a number above all.
  [[nodiscard]] __device__ std::uint32_t key() const { return spoiled() ? ~0u : order_key(most); }
};

/// Copies a part of a row to where it is worked on, and looks at it on the way: what goes to shared
/// memory is on its way before anything is looked at, and nobody sees another thread's before the
/// next barrier. A thread has four tokens of each `part_stride`.
template <class T>
class part_taker {
 public:
  __device__ part_taker(T const* logits, std::uint32_t there, sample_part const& part)
      : row_{logits, there, 0, nullptr}, part_{part} {
    TPX_ROLLED
    for (unsigned first = 0; first < part.inside; first += round) {
      TPX_UNROLL
      for (unsigned k = 0; k < round; k += part_stride) {
        unsigned const i = first + k + threadIdx.x * 4;
        if (i < part.inside && row_.whole(part.begin + i)) {
          copy_four(part.logits + i, logits + part.begin + i);
        }
      }
      end_copies();
    }
  }

  /// With the row's mask and end.
  [[nodiscard]] __device__ running_best take(logits_view<T> const& row) {
    row_ = row;
    std::uint32_t const inside = part_.inside;
    std::uint32_t const last = row.end - (row.end < part_.begin ? row.end : part_.begin);
    bool const plain = row.mask == nullptr && sizeof(T) == 4 && row.whole(0);
    running_best best;
    TPX_ROLLED
    for (unsigned first = inside; first < part_.count; first += round) { outer(first, best); }
    unsigned left = (inside + round - 1) / round;
    TPX_ROLLED
    for (unsigned first = 0; first < inside; first += round) {
      wait_for_copies(--left);
      if (plain && first + round <= inside && first + round <= last) {
        TPX_UNROLL
        for (unsigned k = 0; k < round; k += part_stride) {
          best.add(*reinterpret_cast<float4*>(part_.logits + first + k + threadIdx.x * 4));
        }
      } else {
        inner(first, best);
      }
    }
    return best;
  }

 private:
  static constexpr unsigned steps = 8;
  static constexpr unsigned round = steps * part_stride;

  /// A warp's bits of the mask for a round: those of step k are the lane's % 8 == k.
  [[nodiscard]] __device__ std::uint32_t round_bits(unsigned first) const {
    unsigned const lane = threadIdx.x % 32;
    return row_.bits(part_.begin + first + lane % 8 * part_stride + (threadIdx.x - lane) * 4 +
                     lane / 8 * 32);
  }
  __device__ void put(unsigned i, float4 x, std::uint32_t bits, unsigned k, running_best& best) {
    unsigned const lane = threadIdx.x % 32;
    std::uint32_t const allowed =
      __shfl_sync(~0u, bits, static_cast<int>(lane / 8 * 8 + k)) >> lane % 8 * 4;
    if (i >= part_.count) { return; }
    if ((allowed & 1) == 0) { x.x = no_logit; }
    if ((allowed & 2) == 0) { x.y = no_logit; }
    if ((allowed & 4) == 0) { x.z = no_logit; }
    if ((allowed & 8) == 0) { x.w = no_logit; }
    best.add(x);
    *reinterpret_cast<float4*>(part_.at(i)) = x;
  }

  __device__ void inner(unsigned first, running_best& best) {
    std::uint32_t const bits = round_bits(first);
    TPX_ROLLED
    for (unsigned k = 0; k < steps; ++k) {
      unsigned const i = first + k * part_stride + threadIdx.x * 4;
      if (i - threadIdx.x * 4 >= part_.inside) { break; }
      float4 x{};
      if (i < part_.inside) {
        x = row_.whole(part_.begin + i)
              ? widen(*reinterpret_cast<packed_four<T>*>(part_.logits + i))
              : row_.four(part_.begin + i);
      }
      put(i < part_.inside ? i : part_.count, x, bits, k, best);
    }
  }

  __device__ void outer(unsigned first, running_best& best) {
    std::uint32_t const bits = round_bits(first);
    packed_four<T> x[steps];
    TPX_UNROLL
    for (unsigned k = 0; k < steps; ++k) {
      unsigned const token = part_.begin + first + k * part_stride + threadIdx.x * 4;
      if (row_.whole(token)) { x[k] = load_four(row_.logits + token); }
    }
    TPX_UNROLL
    for (unsigned k = 0; k < steps; ++k) {
      unsigned const i = first + k * part_stride + threadIdx.x * 4;
      unsigned const token = part_.begin + i;
      put(i, row_.whole(token) ? widen(x[k]) : row_.four(token), bits, k, best);
    }
  }

  logits_view<T> row_;
  sample_part part_;
};

}  // namespace detail
}  // namespace tpx
