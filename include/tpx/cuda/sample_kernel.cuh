// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_draw.cuh>
#include <tpx/cuda/sample_lists.cuh>
#include <tpx/cuda/sample_request.cuh>
#include <tpx/cuda/sample_select.cuh>
#include <tpx/cuda/sample_top.cuh>

namespace tpx::detail {

/// What a launch of the kernel works on.
template <class T, class... Stages>
struct sample_launch {
  T const* logits;  // (rows, stride)
  std::size_t stride;
  batch_row const* batch;  // instead of these two, for rows of any slots; or null
  device_row<Stages...>* rows;
  cuda_sampled* results;
  sample_state<Stages...>* states;  // for the host to see
  token_logprob* tops;              // (rows, 2, max_top), too
  std::uint32_t max_top;
  token_lists lists;
  float* before;         // (rows, vocab), where a stage looks back
  std::uint32_t vocab;   // of a row's columns, those that are tokens
  std::uint32_t part;    // tokens of a block, a multiple of 256
  std::uint32_t inside;  // of them in shared memory
  float* outside;        // (blocks, part - inside)
};

template <class T, class... Stages>
[[nodiscard]] __device__ T const* logits_of(sample_launch<T, Stages...> const& work,
                                            std::size_t i) {
  if constexpr (std::is_same_v<T, float>) {
    if (work.batch != nullptr) { return work.batch[i].logits; }
  }
  return work.logits + i * work.stride;
}

/// `first`: of the row's lists.
template <class S, class Lists, class Chosen, class State>
__device__ void apply_stage(cuda_candidates& c, Chosen const& chosen, State& memory,
                            token_lists const& lists, std::size_t first) {
  S const& stage = chosen.template get<S>();
  if (stage.neutral() || c.status() != sample_status::ok) { return; }
  if constexpr (looking_stage<S>) {
    c.take_list(lists.list(first + Lists::template seen<S>));
  } else if constexpr (listing_stage<S>) {
    c.take_list(lists.list(first + Lists::template given<S>));
  }
  if constexpr (picking_stage<S>) {
    return;
  } else if constexpr (stateful_stage<S>) {
    stage.apply(c, memory.template get<S>());
  } else {
    stage.apply(c);
  }
}

template <class S, class Chosen, class State>
__device__ void tell_stage(cuda_candidates& c, Chosen const& chosen, token_id token,
                           State& memory) {
  if constexpr (stateful_stage<S>) {
    S const& stage = chosen.template get<S>();
    if (!stage.neutral()) { stage.picked(c, token, memory.template get<S>()); }
  }
}

/// What a block does.
template <class T, class... Stages>
__device__ void sample_row(sample_launch<T, Stages...> const& work) {
  auto* const reach = reinterpret_cast<float*>(memory_of_block() + sizeof(sample_shared));
  sample_part const part{
    .logits = reach + work.part / chunk_rows,
    .outside = work.outside + std::size_t{blockIdx.x} * (work.part - work.inside),
    .reach = reach,
    .begin = team_rank() * work.part,
    .count = work.part,
    .inside = work.inside};

  using lists = list_layout<Stages...>;
  let_next_launch_begin();
  team_begin();
  if constexpr (lists::looking == 0) { wait_for_launches_before(); }
  unsigned const i = blockIdx.x / team_size();
  T const* const logits = logits_of(work, i);
  part_taker<T> taker{logits, work.vocab, part};
  std::size_t const r = slot_of(work.batch, i);
  device_row<Stages...> const row = work.rows[r];
  logits_view<T> const view{logits, work.vocab, row.end, row.mask};
  sample_state<Stages...> memory = row.memory;
  cuda_candidates c{part, taker.take(view), row.seed, row.step};
  team_meet();
  if constexpr (lists::looking > 0) { wait_for_launches_before(); }  // logits came before the lists
  if constexpr ((looking_back<Stages> || ...)) { c.remember_in(work.before + r * work.vocab); }
  (apply_stage<Stages, lists>(c, row.chosen, memory, work.lists, r * lists::count), ...);

  cuda_sampled result;
  if (c.status() == sample_status::ok) {
    using last = std::tuple_element_t<sizeof...(Stages) - 1, std::tuple<Stages...>>;
    result.token = row.chosen.template get<last>().pick(c);
  }
  result.status = c.status();
  if (result.status == sample_status::ok) {
    (tell_stage<Stages>(c, row.chosen, result.token, memory), ...);
    if (row.logprobs) {
      float const depth = c.logit(result.token) - c.best();
      result.logprob = static_cast<float>(static_cast<double>(depth) - c.log_total());
    }
    token_logprob* const top = work.tops + 2 * r * work.max_top;
    if (row.top > 0) { write_likeliest(c, top, row.top); }
    if (row.logprobs || row.raw_top > 0) {
      look_at_raw(c.team(), view, part, row.logprobs, top + work.max_top, row.raw_top, result);
    }
  }
  if (team_rank() != 0 || threadIdx.x != 0) { return; }
  device_row<Stages...>& next = work.rows[r];
  if (result.status != sample_status::ok) {
    result = {.status = result.status};  // the model's own logits may be what is wrong
    memory = next.memory;
  } else {
    next.step = row.step + 1;
    next.memory = memory;
    if (row.history_size < row.history_room) {
      row.history[row.history_size] = result.token;
      next.history_size = row.history_size + 1;
    }
  }
  work.results[r] = result;
  work.states[r] = memory;
}

/// A cluster, or a block, for each row.
template <class T, class... Stages>
__global__ void __launch_bounds__(sample_threads, 1)
  sample_rows(sample_launch<T, Stages...> const work) {
  sample_row(work);
}

}  // namespace tpx::detail
