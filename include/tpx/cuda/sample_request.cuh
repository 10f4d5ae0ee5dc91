// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_row.cuh>
#include <tpx/generator/batch_row.hpp>
#include <tpx/generator/sample/parameters.hpp>
#include <tpx/generator/sample/state.hpp>

namespace tpx {

/// What a sampler on a GPU is made for.
struct cuda_sampler_options {
  std::size_t columns;                                       // logits of a row
  std::size_t rows = 1;                                      // at most, of a batch
  std::size_t vocab = std::numeric_limits<token_id>::max();  // tokens from here on are padding
  std::size_t max_history = 4096;  // of a row, and tokens of a stage's list, at most
  std::size_t max_top = 0;         // tokens of a list of the likeliest ones, at most
  unsigned blocks = 0;             // that share a row: 1, 2, 4, 8 or 16; 0: by the rows
};

/// What goes with a row of logits on a GPU. Spans are device memory, which stays the caller's and
/// may change from sample to sample; the rest is copied by `cuda_sampler::set`.
struct cuda_sample_request {
  std::span<token_id> history = {};  // room for it, oldest first; penalties look at it
  std::size_t history_size =
    0;  // tokens that are there; what is sampled follows while there is room
  std::span<std::uint32_t const> mask = {};  // as sample_request's
  std::uint64_t seed = 0;
  std::uint64_t step = 0;     // of the next sample; each one adds 1
  bool logprobs = false;      // fill in `logprob`, `raw_logprob` and `rank`
  std::uint32_t top = 0;      // likeliest tokens wanted, after all stages
  std::uint32_t raw_top = 0;  // and before the first
};

/// What came of a row. Without status ok there is no token, and state and step are unchanged.
struct cuda_sampled {
  token_id token = -1;
  sample_status status = sample_status::ok;
  float logprob = 0;
  float raw_logprob = 0;
  std::uint32_t rank = 0;

  friend bool operator==(cuda_sampled const&, cuda_sampled const&) = default;
};

namespace detail {

inline void check_request(cuda_sample_request const& asked, cuda_sampler_options const& options,
                          bool looks) {
  expects(
    asked.history_size <= asked.history.size() &&
      (!looks || asked.history.size() <= options.max_history),
    [&] {
      return "cuda_sampler: a history of " + std::to_string(asked.history_size) +
             " tokens with room for " + std::to_string(asked.history.size()) + ", at most " +
             std::to_string(options.max_history);
    },
    "raise max_history");
  expects(
    std::max(asked.top, asked.raw_top) <= options.max_top,
    [&] {
      return "cuda_sampler: lists of " + std::to_string(asked.top) + " and " +
             std::to_string(asked.raw_top) + " likeliest tokens, made for " +
             std::to_string(options.max_top);
    },
    "raise max_top");
}

template <class S>
struct stage_slot {
  S stage;
};

/// The parameters of a row as a kernel has them: std::tuple is of the CPU.
template <class... Stages>
struct stage_slots : stage_slot<Stages>... {
  template <class S>
  [[nodiscard]] TPX_HD S const& get() const {
    return static_cast<stage_slot<S> const&>(*this).stage;
  }
};

/// A row in device memory.
template <class... Stages>
struct device_row {
  stage_slots<Stages...> chosen;
  sample_state<Stages...> memory;
  token_id* history;
  std::uint32_t const* mask;
  std::uint32_t history_size;
  std::uint32_t history_room;
  std::uint32_t end;  // tokens from here on are forbidden
  std::uint64_t seed;
  std::uint64_t step;
  std::uint32_t top;
  std::uint32_t raw_top;
  bool logprobs;
};

/// Puts a row into device memory, in the order of the stream: a copy of host memory would not be.
template <class Row>
__global__ void put_row(Row* to, Row const row) {
  *to = row;
}

template <class Row>
__global__ void put_mask(Row* to, std::uint32_t const* mask, std::uint32_t end) {
  to->mask = mask;
  to->end = end;
}

/// Whose the row number i of a batch is.
[[nodiscard]] __device__ inline std::size_t slot_of(batch_row const* batch, std::size_t i) {
  return batch == nullptr ? i : batch[i].slot;
}

}  // namespace detail
}  // namespace tpx
