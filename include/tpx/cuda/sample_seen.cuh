// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_lists.cuh>
#include <tpx/cuda/sample_request.cuh>

namespace tpx::detail {

/// A place of a hash table of tokens.
struct alignas(16) seen_slot {
  std::uint32_t key;       // token + 1; 0: empty
  std::uint32_t most;      // a float's bits: those of positive ones are in their order
  unsigned long long sum;  // in units of 2^-24, of which every amount is a multiple
};

/// Slots for so many tokens, at most half full.
[[nodiscard]] TPX_HD constexpr std::uint32_t slots_for(std::size_t tokens) {
  std::uint32_t slots = 64;
  while (slots < 2 * tokens) { slots *= 2; }
  return slots;
}

/// What the kernel of the histories works on.
template <class... Stages>
struct seen_launch {
  device_row<Stages...> const* rows;
  batch_row const* batch;  // null: row 0, 1, ...
  token_lists lists;
  seen_slot* outside;    // (rows, looking, slots_for(lists.room)), if shared memory has no room
  std::uint32_t inside;  // slots that do
  std::uint32_t vocab;
};

/// What stages that look at the history see first: `edit_seen` writes down what tokens of the
/// history come to, for `cuda_candidates` to edit them. One block a row.
class seen_pass {
 public:
  __device__ seen_pass(seen_slot* outside, std::uint32_t inside, seen_token* to,
                       std::uint32_t& count, token_id const* history, std::uint32_t size,
                       std::uint32_t vocab, token_list const& given)
      : slots_{outside},
        inside_{inside},
        to_{to},
        count_{count},
        history_{history},
        size_{size},
        vocab_{vocab},
        given_{given} {}

  template <class Fade>
  __device__ void edit_seen(std::size_t count, Fade fade, auto) {
    auto const n = static_cast<std::uint32_t>(count < size_ ? count : size_);
    std::uint32_t const slots = clear(n);
    for (std::uint32_t back = 1 + threadIdx.x; back <= n; back += blockDim.x) {
      auto const token = static_cast<std::uint32_t>(history_[size_ - back]);
      float const amount = fade(std::size_t{back});
      if (!(amount > 0) || token >= vocab_) { continue; }
      seen_slot& slot = find(token + 1, slots);
      atomicMax(&slot.most, __float_as_uint(amount));
      atomicAdd(&slot.sum, static_cast<unsigned long long>(amount * 0x1p24f));
    }
    drain(slots, [](float most) { return most; });
  }

  /// What repeats the end of the history; see Dry::find. A thread looks at every so manieth place.
  template <class Dry>
  __device__ void edit_found(Dry const& stage, auto) {
    std::uint32_t const n =
      stage.range == 0 ? size_ : min(size_, static_cast<std::uint32_t>(stage.range));
    std::uint32_t const slots = clear(n);
    auto const allowed = static_cast<std::uint32_t>(stage.allowed_length);
    token_id const* const last = history_ + size_ - 1;
    auto const ago = [last](std::uint32_t i) { return *(last - i); };
    __shared__ std::uint32_t unbroken;
    auto const most = static_cast<std::uint32_t>(stage.longest_found());
    if (threadIdx.x == 0) { unbroken = most; }
    __syncthreads();
    for (std::uint32_t i = threadIdx.x; i < n && i < most; i += blockDim.x) {
      if (given_.holds(ago(i))) { atomicMin(&unbroken, i); }
    }
    __syncthreads();
    std::uint32_t const longest = unbroken;
    for (std::uint32_t i = 1 + threadIdx.x; n > allowed && i < n; i += blockDim.x) {
      std::uint32_t length = 0;
      while (length < longest && i + length < n && ago(length) == ago(i + length)) { ++length; }
      token_id const follower = ago(i - 1);
      if (length < allowed || static_cast<std::uint32_t>(follower) >= vocab_ ||
          given_.holds(follower)) {
        continue;
      }
      auto const amount = static_cast<float>(length - allowed + 1);
      atomicMax(&find(static_cast<std::uint32_t>(follower) + 1, slots).most,
                __float_as_uint(amount));
    }
    drain(slots, [&stage](float length) { return stage.penalty(length); });
  }

 private:
  /// An empty table for `tokens` of them.
  [[nodiscard]] __device__ std::uint32_t clear(std::uint32_t tokens) {
    std::uint32_t const slots = slots_for(tokens);
    if (slots <= inside_) { slots_ = reinterpret_cast<seen_slot*>(memory_of_block()); }
    for (std::uint32_t i = threadIdx.x; i < slots; i += blockDim.x) { slots_[i] = {}; }
    __syncthreads();
    return slots;
  }

  template <class F>
  __device__ void drain(std::uint32_t slots, F value) {
    __syncthreads();
    for (std::uint32_t i = threadIdx.x; i < slots; i += blockDim.x) {
      seen_slot const& slot = slots_[i];
      if (slot.key == 0) { continue; }
      to_[atomicAdd(&count_, 1u)] = {static_cast<token_id>(slot.key - 1),
                                     value(__uint_as_float(slot.most)),
                                     static_cast<float>(static_cast<double>(slot.sum) * 0x1p-24)};
    }
  }

  [[nodiscard]] __device__ seen_slot& find(std::uint32_t key, std::uint32_t slots) {
    std::uint32_t at = key * 0x9e3779b1u >> __clz(static_cast<int>(slots - 1));
    while (true) {
      std::uint32_t const there = atomicCAS(&slots_[at].key, 0u, key);
      if (there == 0 || there == key) { return slots_[at]; }
      at = (at + 1) & (slots - 1);
    }
  }

  seen_slot* slots_;
  std::uint32_t inside_;
  seen_token* to_;
  std::uint32_t& count_;
  token_id const* history_;
  std::uint32_t size_;
  std::uint32_t vocab_;
  token_list given_;
};

/// Stages that look at the history have a block each.
template <class S, class Lists, class Work, class Row>
__device__ void look_at_history(Work const& work, Row const& row, std::size_t r) {
  if constexpr (looking_stage<S>) {
    if (blockIdx.x % Lists::looking != Lists::template seen<S>) { return; }
    __shared__ std::uint32_t count;
    if (threadIdx.x == 0) { count = 0; }
    __syncthreads();
    std::size_t const own = r * Lists::count + Lists::template seen<S>;
    auto* const outside =
      work.outside == nullptr
        ? nullptr
        : work.outside + (r * Lists::looking + Lists::template seen<S>)*slots_for(work.lists.room);
    token_list given;
    if constexpr (listing_stage<S>) {
      given = work.lists.list(r * Lists::count + Lists::template given<S>);
    }
    seen_pass pass{outside,    work.inside, work.lists.tokens + work.lists.at(own),
                   count,      row.history, row.history_size,
                   work.vocab, given};
    S const& stage = row.chosen.template get<S>();
    if (!stage.neutral()) { stage.apply(pass); }
    __syncthreads();
    if (threadIdx.x == 0) { work.lists.counts[own] = count; }
  }
}

/// The sparse part of a sample: it runs while the dense kernel's blocks fetch their logits.
template <class... Stages>
__global__ void __launch_bounds__(sample_threads) see_rows(seen_launch<Stages...> const work) {
  wait_for_launches_before();
  let_next_launch_begin();
  using lists = list_layout<Stages...>;
  std::size_t const r = slot_of(work.batch, blockIdx.x / lists::looking);
  (look_at_history<Stages, lists>(work, work.rows[r], r), ...);
}

}  // namespace tpx::detail
