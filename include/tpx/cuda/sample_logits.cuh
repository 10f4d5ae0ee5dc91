// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_row.cuh>
#include <tpx/cuda/sample_team.cuh>

namespace tpx::detail {

/// `logit_row` on a GPU: the logits of a row, which are scaled and cut off lazily. All threads of
/// the blocks that share the row call the same in the same order.
class cuda_logits {
 public:
  __device__ cuda_logits(sample_part const& part, running_best const& best)
      : part_{part}, mine_{best} {}

  [[nodiscard]] __device__ sample_part const& part() const { return part_; }
  [[nodiscard]] __device__ sample_team& team() { return team_; }
  [[nodiscard]] __device__ float scale() const { return scale_; }
  /// The largest that this thread has, as it is stored.
  [[nodiscard]] __device__ float most() const { return mine_.most; }

  /// What a stored logit counts as; -infinity for what is no candidate.
  [[nodiscard]] __device__ float seen(float raw) const {
    return raw >= floor_ ? raw * scale_ : no_logit;
  }
  /// The logit at a place of this block's part.
  [[nodiscard]] __device__ float at(unsigned i) const { return seen(*part_.at(i)); }

  /// Calls f(token, logit) for this thread's tokens.
  template <class F>
  __device__ void for_each(F f) const {
    each_raw([&f, floor = floor_, scale = scale_](std::uint32_t token, float raw) {
      f(token, raw >= floor ? raw * scale : no_logit);
    });
  }

  /// The same by four, while they are not few.
  template <class F>
  __device__ void for_each_four(F f) const {
    sample_part const part = part_;
    float const floor = floor_;
    float const scale = scale_;
    auto const seen = [floor, scale](float raw) { return raw >= floor ? raw * scale : no_logit; };
    constexpr unsigned at_once = 4;
    TPX_ROLLED
    for (unsigned i = threadIdx.x * 4; i < part.count; i += at_once * part_stride) {
      float4 x[at_once];
      TPX_UNROLL
      for (unsigned k = 0; k < at_once; ++k) {
        unsigned const at = i + k * part_stride;
        x[k] = at < part.count ? *reinterpret_cast<float4 const*>(part.at(at))
                               : float4{no_logit, no_logit, no_logit, no_logit};
      }
      TPX_UNROLL
      for (unsigned k = 0; k < at_once; ++k) {
        f(seen(x[k].x), seen(x[k].y), seen(x[k].z), seen(x[k].w));
      }
    }
  }

  /// Joins what all threads have.
  [[nodiscard]] __device__ std::uint64_t join(std::uint64_t x, joined_by how) {
    return team_.join(x, how, !are_few());
  }
  /// The same of this block alone.
  [[nodiscard]] __device__ std::uint64_t join_block(std::uint64_t x, joined_by how) {
    return team_.join(x, how, false);
  }

  /// Whether each thread has one candidate at most, and all blocks have the same.
  [[nodiscard]] __device__ bool are_few() const { return part_.left != nullptr; }

  /// Collects the tokens with keep(logit), one a thread, for every block: false if they are too
  /// many. `any`: whether this thread may have one.
  template <class F>
  [[nodiscard]] __device__ bool collect(bool any, F keep, collected_token& to) {
    start_collecting();
    each_of(any, [&, floor = floor_, scale = scale_](std::uint32_t token, float raw) {
      if (raw >= floor && keep(raw * scale)) { put_collected(raw, token); }
    });
    std::uint64_t none = 0;
    return end_collecting(to, none);
  }

  /// In steps: what any thread puts, all get.
  __device__ void start_collecting() const {
    __syncthreads();
    if (threadIdx.x == 0) { shared_of_block().collected = 0; }
    __syncthreads();
  }
  __device__ void put_collected(float raw, std::uint32_t token) const {
    auto& shared = shared_of_block();
    unsigned const room = share_of(2 * sample_threads);
    std::uint32_t const i = atomicAdd(&shared.collected, 1u);
    if (i < room) { shared.found[team_rank() * room + i] = {__float_as_uint(raw), token}; }
  }
  /// Adds up `sum`, of which all threads of a block have the same, over the blocks.
  [[nodiscard]] __device__ bool end_collecting(collected_token& to, std::uint64_t& sum) {
    auto& shared = shared_of_block();
    unsigned const size = team_size();
    unsigned const room = share_of(2 * sample_threads);
    auto* const mine = reinterpret_cast<ulonglong2*>(shared.found + team_rank() * room);
    __syncthreads();
    // Mostly a quarter of the room will do: the network takes longer for all of it.
    ulonglong2 const told = team_.give(mine, room / 8, {shared.collected, sum});
    sum = join_warp(told.y, joined_by::sum);
    auto const theirs = static_cast<std::uint32_t>(told.x);
    to.count = __reduce_add_sync(~0u, theirs);
    if (to.count > sample_threads || __any_sync(~0u, theirs > room)) { return false; }
    if (__any_sync(~0u, theirs > room / 4)) {
      __syncthreads();
      static_cast<void>(team_.give(mine, room / 2, {0, 0}));
    }
    if (threadIdx.x / 32 * 32 >= to.count) { return true; }
    std::uint32_t at = threadIdx.x;
    bool found = false;
    TPX_ROLLED
    for (unsigned r = 0; r < size; ++r) {
      std::uint32_t const n = __shfl_sync(~0u, theirs, static_cast<int>(r));
      if (!found && at < n) {
        uint2 const it = shared.found[r * room + at];
        to.raw = __uint_as_float(it.x);
        to.token = it.y;
        found = true;
      }
      at -= n;
    }
    return true;
  }

  /// From here on only these, which were collected.
  __device__ void narrow(collected_token const& to) {
    auto& shared = shared_of_block();
    shared.few_logits[threadIdx.x] = to.raw;
    shared.few_tokens[threadIdx.x] = to.token;
    part_ = {.logits = shared.few_logits,
             .left = shared.few_tokens,
             .count = to.count,
             .inside = sample_threads};
    mine_.most = to.raw;
  }

 protected:
  __device__ void scale(float by) { scale_ *= by; }
  __device__ void cut_off(float floor) { floor_ = fmaxf(floor_, unscaled(floor)); }
  __device__ void settle() {
    if (scale_ != 1 || floor_ > no_logit) {
      mine_ = {.most = seen(mine_.most), .nan = mine_.spoiled()};
      rewrite([](std::uint32_t, float x) { return x; });
    }
  }

  /// Every token gets the logit f(token, logit).
  template <class F>
  __device__ void rewrite(F f) {
    sample_part const part = part_;
    if (are_few()) {
      unsigned const i = threadIdx.x;
      if (i < part.count) { part.logits[i] = f(part.left[i], at(i)); }
    } else {
      TPX_ROLLED
      for (unsigned i = threadIdx.x * 4; i < part.count; i += part_stride) {
        float* const x = part.at(i);
        TPX_UNROLL
        for (unsigned k = 0; k < 4; ++k) { x[k] = f(part.begin + i + k, seen(x[k])); }
      }
    }
    scale_ = 1;
    floor_ = no_logit;
  }

  /// After some of this thread's tokens have changed.
  __device__ void look_again() {
    mine_ = {.nan = mine_.nan};
    each_raw([this](std::uint32_t, float x) { mine_.add(x); });
  }

  sample_part part_;
  running_best mine_;

  /// Calls f(token, stored logit) for all tokens of those threads that say so: a warp looks at one
  /// thread's at a time, so that few threads' take no longer than many's.
  template <class F>
  __device__ void each_of(bool mine, F f) const {
    sample_part const part = part_;
    if (are_few()) {
      if (mine && threadIdx.x < part.count) { f(part.left[threadIdx.x], part.logits[threadIdx.x]); }
      return;
    }
    unsigned const lane = threadIdx.x % 32;
    TPX_ROLLED
    for (unsigned left = __ballot_sync(~0u, mine); left != 0; left &= left - 1) {
      unsigned const whose =
        threadIdx.x - lane + static_cast<unsigned>(__ffs(static_cast<int>(left))) - 1;
      TPX_ROLLED
      for (unsigned i = whose * 4 + lane * part_stride; i < part.count; i += 32 * part_stride) {
        four(part, i, f);
      }
    }
  }

 private:
  /// Of the part's i-th and the next three.
  template <class F>
  static __device__ void four(sample_part const& part, unsigned i, F& f) {
    float4 const x = *reinterpret_cast<float4 const*>(part.at(i));
    std::uint32_t const token = part.begin + i;
    f(token, x.x);
    f(token + 1, x.y);
    f(token + 2, x.z);
    f(token + 3, x.w);
  }

  template <class F>
  __device__ void each_raw(F f) const {
    sample_part const part = part_;
    if (are_few()) {
      unsigned const i = threadIdx.x;
      if (i < part.count) { f(part.left[i], part.logits[i]); }
      return;
    }
#pragma unroll 2
    for (unsigned i = threadIdx.x * 4; i < part.count; i += part_stride) { four(part, i, f); }
  }

  /// The least number that is at least `floor` once it is scaled and rounded: each lane of a warp
  /// tries one of 32 parts of what is left of the floats.
  [[nodiscard]] __device__ float unscaled(float floor) const {
    if (scale_ == 1) { return floor; }
    std::uint32_t const lowest = order_key(no_logit);
    std::uint32_t const most = order_key(-no_logit) - lowest;
    std::uint32_t below = 0;  // so many floats from the lowest on are not enough
    TPX_ROLLED
    for (int shift = 27; shift > -5; shift -= 5) {
      int const bits = shift < 0 ? 0 : shift;
      std::uint32_t const lane = threadIdx.x % 32;
      std::uint32_t const last = below + ((lane + 1) << bits) - 1;
      bool const enough = last > most || lane >= (shift < 0 ? 4u : 32u) ||
                          from_order_key(lowest + last) * scale_ >= floor;
      below += static_cast<std::uint32_t>(__popc(__ballot_sync(~0u, !enough))) << bits;
    }
    return from_order_key(lowest + below);
  }

  sample_team team_;
  float scale_ = 1;
  float floor_ = no_logit;
};

}  // namespace tpx::detail
