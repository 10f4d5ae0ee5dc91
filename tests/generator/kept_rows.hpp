// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/batch_sampler.hpp>
#include <tpx/generator/guidance.hpp>
#include <tpx/generator/sampler.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <vector>

namespace fake {

/// A row store that keeps requests as a GPU does, in memory of its own which nobody else sees: a
/// history to which it appends, a step that it counts, what its stages remember. It samples when it
/// is waited for, with a chain of the library's.
template <class Chain>
class kept_rows {
 public:
  using parameters = typename Chain::parameters;
  using state = typename Chain::state;

  kept_rows(std::size_t columns, std::size_t slots)
      : columns_{columns}, chain_{{.columns = columns}}, rows_(slots) {}

  [[nodiscard]] std::size_t size() const { return rows_.size(); }

  void set(std::uint32_t slot, tpx::sample_request const& request, parameters const& chosen,
           state const& memory) {
    ++sets;
    row& r = rows_.at(slot);
    r.history.assign(request.history.begin(), request.history.end());
    r.seed = request.seed;
    r.step = request.step;
    r.id = request.id;
    r.logprobs = request.logprobs;
    r.top.resize(request.top.size());
    r.raw_top.resize(request.raw_top.size());
    r.chosen = chosen;
    r.memory = memory;
  }

  void mask(std::uint32_t slot, std::span<std::uint32_t const> mask) {
    ++masks;
    rows_.at(slot).mask.assign(mask.begin(), mask.end());
  }

  void guide(std::span<float> logits, std::span<float const> negative, float strength) {
    tpx::guide(logits, negative, strength);
  }

  void sample(std::span<tpx::batch_row const> rows) {
    tpx::expects(batch_.empty(), "a batch before the last one was waited for");
    for (auto const& r : rows) {
      for (auto const& other : batch_) {
        tpx::expects(other.slot != r.slot, "two rows of one slot in a batch");
      }
      batch_.push_back(r);
    }
    if (++batches == fails_at) { throw tpx::error{tpx::errc::cuda, "the sampler fell over"}; }
  }

  void wait() {
    for (auto const& [logits, slot] : batch_) { draw(rows_[slot], {logits, columns_}); }
    batch_.clear();
  }

  [[nodiscard]] tpx::sampled result(std::uint32_t slot, tpx::sample_request const& request) {
    tpx::expects(batch_.empty(), "a result before it was waited for");
    row& r = rows_.at(slot);
    if (r.wrong) { std::rethrow_exception(std::exchange(r.wrong, nullptr)); }
    auto result = r.result;
    std::copy(r.result.top.begin(), r.result.top.end(), request.top.begin());
    std::copy(r.result.raw_top.begin(), r.result.raw_top.end(), request.raw_top.begin());
    result.top = request.top.first(r.result.top.size());
    result.raw_top = request.raw_top.first(r.result.raw_top.size());
    return result;
  }

  [[nodiscard]] state memory(std::uint32_t slot) const { return rows_.at(slot).memory; }

  std::size_t sets = 0;
  std::size_t masks = 0;
  std::size_t batches = 0;
  std::size_t fails_at = 0;  // this batch; 0: none

 private:
  struct row {
    std::vector<tpx::token_id> history = {};
    std::vector<std::uint32_t> mask = {};
    std::vector<tpx::token_logprob> top = {};
    std::vector<tpx::token_logprob> raw_top = {};
    std::uint64_t seed = 0;
    std::uint64_t step = 0;
    std::uint64_t id = 0;
    bool logprobs = false;
    parameters chosen = {};
    state memory = {};
    tpx::sampled result = {};
    std::exception_ptr wrong = {};
  };

  void draw(row& r, std::span<float const> logits) {
    try {
      r.result = chain_.sample({.logits = logits,
                                .history = r.history,
                                .mask = r.mask,
                                .seed = r.seed,
                                .step = r.step,
                                .id = r.id,
                                .logprobs = r.logprobs,
                                .top = r.top,
                                .raw_top = r.raw_top},
                               r.chosen, r.memory);
      r.history.push_back(r.result.token);
      ++r.step;
    } catch (...) { r.wrong = std::current_exception(); }
  }

  std::size_t columns_;
  Chain chain_;
  std::vector<row> rows_;
  std::vector<tpx::batch_row> batch_;
};

}  // namespace fake
