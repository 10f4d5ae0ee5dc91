// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_lists.cuh>
#include <tpx/cuda/sample_logits.cuh>

namespace tpx {

/// The tokens of a row that may still be drawn, on a GPU: what stages work on there. All threads of
/// the blocks that share the row call the same in the same order, and what is asked of the whole is
/// the same for all. Where the Cpu space would throw, the status is set, and nothing else counts.
///
/// Exactly `candidates`' numbers: sums are of integers, and nothing is fused or reordered.
class cuda_candidates : public detail::cuda_logits {
 public:
  __device__ cuda_candidates(detail::sample_part const& part, detail::running_best const& best,
                             std::uint64_t seed, std::uint64_t step)
      : detail::cuda_logits{part, best}, seed_{seed}, step_{step} {}

  [[nodiscard]] __device__ sample_status status() const { return status_; }
  [[nodiscard]] __device__ std::uint64_t seed() const { return seed_; }
  [[nodiscard]] __device__ std::uint64_t step() const { return step_; }

  [[nodiscard]] __device__ float best() {
    if (best_known_) { return best_; }
    if (!raw_known_) {
      auto const key = static_cast<std::uint32_t>(join(mine_.key(), detail::joined_by::max));
      not_a_number_ = key == ~0u;
      raw_best_ = detail::from_order_key(key);
      raw_known_ = true;
    }
    best_ = raw_best_ > detail::no_logit ? raw_best_ * scale() : raw_best_;
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
      for_each([&sum, best = best()](std::uint32_t, float x) {
        sum += detail::fixed_of(detail::mass_of(x, best));
      });
      total_ = join(sum, detail::joined_by::sum);
    }
    return total_;
  }
  [[nodiscard]] __device__ double log_total() {
    return detail::ln(static_cast<double>(fixed_total()) / detail::fixed_one);
  }

  struct spread {
    std::uint64_t mass;
    std::uint64_t depth;
    std::uint64_t count;
  };
  [[nodiscard]] __device__ spread masses() {
    auto const sums = fixed_sums([best = best()](float x, auto add) {
      float const mass = detail::mass_of(x, best);
      add(mass, mass > 0 ? (best - x) * mass : 0.0f, x > detail::no_logit ? 1.0f : 0.0f);
    });
    return {sums[0], sums[1], sums[2] >> 40};
  }

  [[nodiscard]] __device__ detail::three_sums depth_moments() {
    return fixed_sums([best = best()](float x, auto add) {
      float const depth = (best - x) * 0x1p-10f;
      if (depth < 1) { add(depth, depth * depth, 1.0f); }
    });
  }

  [[nodiscard]] __device__ std::uint64_t count_over(float than) {
    std::uint64_t count = 0;
    for_each([&count, than](std::uint32_t, float x) { count += x > than ? 1 : 0; });
    return join(count, detail::joined_by::sum);
  }

  template <class F>
  __device__ void for_each_from(float from, F f) const {
    each_of(seen(most()) >= from, [&](std::uint32_t token, float raw) {
      float const x = seen(raw);
      if (x >= from && x > detail::no_logit) { f(static_cast<token_id>(token), x); }
    });
  }

  __device__ void multiply(float by) {
    scale(by);
    forget();
  }

  __device__ void keep_from(float floor) {
    float const most = best();
    cut_off(floor < most ? floor : most);
    total_ = 0;
  }

  template <class Order>
  __device__ void keep_until(Order const& order, float end) {
    change([&](std::uint32_t, float x) {
      return x > detail::no_logit && order.order(x) >= end ? x : detail::no_logit;
    });
  }

  __device__ void keep_only(token_id only) {
    change([only](std::uint32_t token, float x) {
      return token == static_cast<std::uint32_t>(only) ? x : detail::no_logit;
    });
  }

  /// f(logit, token) changes a candidate's logit in place.
  template <class F>
  __device__ void transform(F f) {
    change([&](std::uint32_t token, float x) {
      if (x > detail::no_logit) { f(x, static_cast<token_id>(token)); }
      return x;
    });
  }

  __device__ void remember() {
    settle();
    for_each([&](std::uint32_t token, float x) {
      if (x > detail::no_logit) { before_[token] = x; }
    });
    __threadfence();  // another block may have the token by then
  }
  [[nodiscard]] __device__ float remembered(token_id token) {
    float here = detail::no_logit;
    for_each([&](std::uint32_t t, float x) {
      if (t == static_cast<std::uint32_t>(token) && x > detail::no_logit) { here = before_[t]; }
    });
    return detail::from_order_key(static_cast<std::uint32_t>(largest(detail::order_key(here))));
  }
  /// Where that is kept: a float a token.
  __device__ void remember_in(float* before) { before_ = before; }

  __device__ void edit_seen(std::size_t, auto, auto f) { edit_list(f); }
  __device__ void edit_found(auto const&, auto f) {
    edit_list([f](float logit, float penalty, float) { return f(logit, penalty); });
  }
  __device__ void edit_listed(auto const&, auto f) {
    if (*list_.count == 0) { return; }
    edit_list([f](float logit, float bias, float) { return f(logit, bias); });
  }

  template <class F>
  __device__ void for_each_unlisted(auto const&, float from, F f) const {
    for_each_from(from, [&](token_id token, float x) {
      if (!list_.holds(token)) { f(token, x); }
    });
  }
  template <class F>
  __device__ void edit_unlisted(auto const&, float from, F f) {
    change([&](std::uint32_t token, float x) {
      bool const mine = x >= from && x > detail::no_logit;
      return mine && !list_.holds(static_cast<token_id>(token)) ? f(x) : x;
    });
  }

  /// Gives each token of the list that is a candidate the logit f(logit, most, sum).
  template <class F>
  __device__ void edit_list(F f) {
    settle();
    detail::seen_token const* const seen_ = list_.tokens;
    unsigned const seen_count_ = *list_.count;
    unsigned const seen_room_ = list_.room;
    auto& touched = detail::shared_of_block().low;  // whose tokens are edited
    touched[threadIdx.x] = 0;
    auto const edit = [&](float& logit, detail::seen_token const& by) {
      if (!(logit > detail::no_logit)) { return; }
      logit = f(logit, by.most, by.sum);
      mine_.nan = mine_.nan || logit != logit;
    };
    __syncthreads();
    if (are_few()) {
      for_each([&](std::uint32_t token, float) {
        TPX_ROLLED
        for (unsigned i = 0; i < seen_count_; ++i) {
          if (static_cast<std::uint32_t>(seen_[i].token) == token) {
            edit(part_.logits[threadIdx.x], seen_[i]);
            touched[threadIdx.x] = 1;
          }
        }
      });
    } else {
      TPX_ROLLED
      for (unsigned i = threadIdx.x; i < seen_room_; i += detail::sample_threads) {
        detail::seen_token const by = seen_[i];  // on its way before the count is there
        if (i >= seen_count_) { break; }
        unsigned const at = static_cast<std::uint32_t>(by.token) - part_.begin;
        if (at >= part_.count) { continue; }
        edit(*part_.at(at), by);
        touched[at % detail::part_stride / 4] = 1;
      }
    }
    __syncthreads();
    if (touched[threadIdx.x] != 0) { look_again(); }
    raw_known_ = false;
    forget();
  }

  [[nodiscard]] __device__ std::uint64_t largest(std::uint64_t mine) {
    return join(mine, detail::joined_by::max);
  }
  [[nodiscard]] __device__ std::uint64_t sum(std::uint64_t mine) {
    return join(mine, detail::joined_by::sum);
  }

  [[nodiscard]] __device__ float logit(token_id token) {
    float here = detail::no_logit;
    for_each([&](std::uint32_t t, float x) {
      if (t == static_cast<std::uint32_t>(token)) { here = x; }
    });
    return detail::from_order_key(
      static_cast<std::uint32_t>(join(detail::order_key(here), detail::joined_by::max)));
  }

  /// What the next stage goes through.
  __device__ void take_list(detail::token_list const& list) { list_ = list; }

 private:
  __device__ void forget() {
    best_known_ = false;
    total_ = 0;
  }

  __device__ void fail(sample_status status) {
    if (status_ == sample_status::ok) { status_ = status; }
    best_ = 0;
  }

  /// f(logit, add) calls add with three reals of 0 to 1, or not; their sums in units of 2^-40.
  template <class F>
  [[nodiscard]] __device__ detail::three_sums fixed_sums(F f) {
    detail::three_sums sums{};
    for_each([&](std::uint32_t, float x) {
      f(x, [&](float a, float b, float c) {
        sums[0] += detail::fixed_of(a);
        sums[1] += detail::fixed_of(b);
        sums[2] += detail::fixed_of(c);
      });
    });
    for (std::uint64_t& sum : sums.value) { sum = join(sum, detail::joined_by::sum); }
    return sums;
  }

  template <class F>
  __device__ void change(F f) {
    rewrite(f);
    look_again();
    raw_known_ = false;
    forget();
  }

  std::uint64_t seed_;
  std::uint64_t step_;
  detail::token_list list_;
  float* before_ = nullptr;
  float raw_best_ = 0;
  float best_ = 0;
  bool raw_known_ = false;
  bool best_known_ = false;
  bool not_a_number_ = false;
  std::uint64_t total_ = 0;
  sample_status status_ = sample_status::ok;
};

}  // namespace tpx
