// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_row.cuh>

namespace tpx {

/// The tokens of a row that may still be drawn, on a GPU: what stages work on there. All threads of
/// the blocks that share the row call the same in the same order, and what is asked of the whole is
/// the same for all. Where the Cpu space would throw, the status is set, and nothing else counts.
///
/// Exactly `candidates`' numbers: sums are of integers, and nothing is fused or reordered.
class cuda_candidates {
 public:
  __device__ cuda_candidates(detail::sample_team& team, detail::sample_part const& part,
                             detail::running_best const& best, std::uint64_t seed,
                             std::uint64_t step)
      : team_{team}, part_{part}, mine_{best}, seed_{seed}, step_{step} {}

  [[nodiscard]] __device__ sample_status status() const { return status_; }
  [[nodiscard]] __device__ detail::sample_team& team() { return team_; }
  [[nodiscard]] __device__ detail::sample_part const& part() const { return part_; }
  [[nodiscard]] __device__ std::uint64_t seed() const { return seed_; }
  [[nodiscard]] __device__ std::uint64_t step() const { return step_; }

  /// The logit at a place of this block's part; -infinity for what is no candidate.
  [[nodiscard]] __device__ float at(unsigned i) const { return seen(part_.logits[i]); }

  /// Calls f(i, logit) for all places of this block's part.
  template <class F>
  __device__ void for_each(F f) const {
    for (unsigned i = threadIdx.x * 4; i < part_.count; i += detail::sample_threads * 4) {
      float4 const x = *reinterpret_cast<float4 const*>(part_.logits + i);
      f(i, seen(x.x));
      f(i + 1, seen(x.y));
      f(i + 2, seen(x.z));
      f(i + 3, seen(x.w));
    }
  }

  [[nodiscard]] __device__ float best() {
    if (best_known_) { return best_; }
    if (!raw_known_) {
      auto const key = static_cast<std::uint32_t>(team_.join(mine_.key(), detail::take_max{}));
      not_a_number_ = key == ~0u;
      raw_best_ = detail::from_order_key(key);
      raw_known_ = true;
    }
    best_ = raw_best_ > detail::no_logit ? raw_best_ * scale_ : raw_best_;
    if (not_a_number_ || best_ > 1e30f) {
      fail(sample_status::not_a_number);
    } else if (!(best_ > detail::no_logit)) {
      fail(sample_status::nothing_allowed);
    }
    best_known_ = true;
    return best_;
  }

  [[nodiscard]] __device__ std::uint64_t fixed_total() {
    if (total_ == 0) {
      std::uint64_t sum = 0;
      for_each([&sum, best = best()](unsigned, float x) {
        sum += detail::fixed_of(detail::mass_of(x, best));
      });
      total_ = team_.join(sum, detail::take_sum{});
    }
    return total_;
  }
  [[nodiscard]] __device__ double log_total() {
    return std::log(static_cast<double>(fixed_total()) / detail::fixed_one);
  }

  [[nodiscard]] __device__ std::uint64_t count_over(float than) {
    std::uint64_t count = 0;
    for_each([&count, than](unsigned, float x) { count += x > than ? 1 : 0; });
    return team_.join(count, detail::take_sum{});
  }

  template <class F>
  __device__ void for_each_from(float from, F f) const {
    for_each([&](unsigned i, float x) {
      if (x >= from && x > detail::no_logit) { f(static_cast<token_id>(part_.begin + i), x); }
    });
  }

  __device__ void multiply(float by) {
    scale_ *= by;
    forget();
  }

  __device__ void keep_from(float floor) {
    float const most = best();
    floor_ = fmaxf(floor_, unscaled(floor < most ? floor : most));
    total_ = 0;
  }

  __device__ void keep_only(token_id token) {
    rewrite([this, token](unsigned i, float x) {
      return part_.begin + i == static_cast<std::uint32_t>(token) ? x : detail::no_logit;
    });
  }

  __device__ void edit_seen(std::size_t, auto, auto f) {
    if (scale_ != 1 || floor_ > detail::no_logit) {
      rewrite([](unsigned, float x) { return x; });
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < seen_count_; i += detail::sample_threads) {
      detail::seen_token const& s = seen_[i];
      unsigned const at = static_cast<std::uint32_t>(s.token) - part_.begin;
      if (at >= part_.count || !(part_.logits[at] > detail::no_logit)) { continue; }
      float const now = f(part_.logits[at], s.most, s.sum);
      part_.logits[at] = now;
      mine_.nan = mine_.nan || now != now;
    }
    __syncthreads();
    look_again();
  }

  [[nodiscard]] __device__ std::uint64_t largest(std::uint64_t mine) {
    return team_.join(mine, detail::take_max{});
  }

  [[nodiscard]] __device__ float logit(token_id token) {
    unsigned const i = static_cast<std::uint32_t>(token) - part_.begin;
    auto const key = detail::order_key(i < part_.count ? at(i) : detail::no_logit);
    return detail::from_order_key(static_cast<std::uint32_t>(team_.join(key, detail::take_max{})));
  }

  /// What `edit_seen` goes through: all tokens of the row's history that count.
  __device__ void seen_tokens(detail::seen_token const* seen, unsigned count) {
    seen_ = seen;
    seen_count_ = count;
  }

 private:
  [[nodiscard]] __device__ float seen(float raw) const {
    return raw >= floor_ ? raw * scale_ : detail::no_logit;
  }

  __device__ void forget() {
    best_known_ = false;
    total_ = 0;
  }

  __device__ void fail(sample_status status) {
    if (status_ == sample_status::ok) { status_ = status; }
    best_ = 0;
  }

  /// Every place gets f(place, logit), by its own thread.
  template <class F>
  __device__ void rewrite(F f) {
    for_each([&](unsigned i, float x) { part_.logits[i] = f(i, x); });
    scale_ = 1;
    floor_ = detail::no_logit;
    look_again();
  }

  __device__ void look_again() {
    mine_ = {.nan = mine_.nan};
    for_each([this](unsigned, float x) { mine_.add(x); });
    raw_known_ = false;
    forget();
  }

  /// The least number that is at least `floor` once it is scaled and rounded: each lane of a warp
  /// tries one of 32 parts of what is left of the floats.
  [[nodiscard]] __device__ float unscaled(float floor) const {
    if (scale_ == 1) { return floor; }
    std::uint32_t const lowest = detail::order_key(detail::no_logit);
    std::uint32_t const most = detail::order_key(-detail::no_logit) - lowest;
    std::uint32_t below = 0;  // so many floats from the lowest on are not enough
    for (int shift = 27; shift > -5; shift -= 5) {
      int const bits = shift < 0 ? 0 : shift;
      std::uint32_t const lane = threadIdx.x % 32;
      std::uint32_t const last = below + ((lane + 1) << bits) - 1;
      bool const enough = last > most || lane >= (shift < 0 ? 4u : 32u) ||
                          detail::from_order_key(lowest + last) * scale_ >= floor;
      below += static_cast<std::uint32_t>(__popc(__ballot_sync(~0u, !enough))) << bits;
    }
    return detail::from_order_key(lowest + below);
  }

  detail::sample_team& team_;
  detail::sample_part part_;
  detail::running_best mine_;
  std::uint64_t seed_;
  std::uint64_t step_;
  detail::seen_token const* seen_ = nullptr;
  unsigned seen_count_ = 0;
  float scale_ = 1;
  float floor_ = detail::no_logit;
  float raw_best_ = 0;
  float best_ = 0;
  bool raw_known_ = false;
  bool best_known_ = false;
  bool not_a_number_ = false;
  std::uint64_t total_ = 0;
  sample_status status_ = sample_status::ok;
};

}  // namespace tpx
