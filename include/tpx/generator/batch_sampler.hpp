// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/batch_row.hpp>
#include <tpx/generator/draws.hpp>
#include <tpx/generator/sample/request.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tpx {

/// What keeps the requests that are running elsewhere than on the host, a slot each, and samples
/// many at once: GPU memory, or another machine.
///
///   r.size()                               slots
///   r.set(slot, request, chosen, memory)   the slot's from now on, all but logits and mask
///   r.mask(slot, mask)                     as sample_request's, until another; empty: none
///   r.guide(logits, negative, strength)    as tpx::guide; of a row that is sampled next
///   r.sample(rows)                         begins to: these slots' steps, histories and memories
///                                          move on with what is picked
///   r.wait()                               until that is done
///   r.result(slot, request)                what came of it, or throws what is wrong with the row
///   r.memory(slot)                         what its stages remember
template <class R>
concept row_store = requires(R& r, std::uint32_t slot, sample_request const& request,
                             typename R::parameters const& chosen, typename R::state const& memory,
                             std::span<float> logits, std::span<float const> negative,
                             std::span<batch_row const> rows) {
  { r.size() } -> std::convertible_to<std::size_t>;
  r.set(slot, request, chosen, memory);
  r.mask(slot, request.mask);
  r.guide(logits, negative, 1.0f);
  r.sample(rows);
  r.wait();
  { r.result(slot, request) } -> std::convertible_to<sampled>;
  { r.memory(slot) } -> std::convertible_to<typename R::state>;
};

/// A generator's sampler over rows that are kept elsewhere. Tokens are those of a sampler that is
/// told everything for each: a slot is set where it does not hold what a sequence has come to,
/// which is when it is new there and when tokens were taken back.
///
/// Cost    one batch a step, and one more for each token of the longest draft that was right; masks
///         for each token of a job that has them.
template <row_store Rows>
class batch_sampler {
 public:
  using parameters = typename Rows::parameters;
  struct state {
    typename Rows::state memory = {};
    std::uint64_t turn = 0;  // of the sample that left it so; 0: none
  };

  /// `rows` must outlive it, and have as many slots as the generator's max_batch.
  explicit batch_sampler(Rows& rows) : rows_{rows}, held_(rows.size()) {
    for (auto* const list : {&asked_, &taken_}) { list->reserve(rows.size()); }
    batch_.reserve(rows.size());
  }

  template <class Draws>
  void draw(Draws& draws) {
    for (std::size_t i = 0; i < draws.size(); ++i) {
      if (draws.begin(i)) { ask(draws, i); }
    }
    while (!asked_.empty()) {
      sample();
      std::swap(asked_, taken_);
      for (auto const& a : taken_) {
        if (draws.take(a.sequence, [&] { return answer(a); })) { ask(draws, a.sequence); }
      }
      taken_.clear();
    }
  }

  void guide(std::span<float> logits, std::span<float const> negative, float strength) {
    rows_.guide(logits, negative, strength);
  }

  void check(parameters const& chosen) const requires requires(Rows const& r) { r.check(chosen); }
  { rows_.check(chosen); }

 private:
  struct asked {
    std::size_t sequence;  // of the step
    sample_request request = {};
    state* memory = nullptr;
    std::exception_ptr wrong = {};  // with this row, before it was sampled
  };
  struct held {
    std::uint64_t turn = 0;  // as state's; 0: unknown
    bool masked = false;
  };

  template <class Draws>
  void ask(Draws& draws, std::size_t i) {
    auto& a = asked_.emplace_back(asked{.sequence = i});
    try {
      auto const d = draws.ask(i);
      a.request = d.request;
      a.memory = &d.memory;
      put(d.request, d.chosen, d.memory);
    } catch (...) { a.wrong = std::current_exception(); }
  }

  void put(sample_request const& request, parameters const& chosen, state const& memory) {
    expects(
      request.slot < held_.size(),
      [&] {
        return "batch_sampler: slot " + std::to_string(request.slot) + " of " +
               std::to_string(held_.size());
      },
      "have as many rows as the generator's max_batch");
    held& h = held_[request.slot];
    if (std::exchange(h.turn, 0) != memory.turn || memory.turn == 0) {
      rows_.set(request.slot, request, chosen, memory.memory);
    }
    if (std::exchange(h.masked, !request.mask.empty()) || h.masked) {
      rows_.mask(request.slot, request.mask);
    }
  }

  void sample() {
    wrong_ = nullptr;
    batch_.clear();
    for (auto const& a : asked_) {
      if (!a.wrong) { batch_.push_back({a.request.logits.data(), a.request.slot}); }
    }
    if (batch_.empty()) { return; }
    try {
      rows_.sample(batch_);
      rows_.wait();
    } catch (...) { wrong_ = std::current_exception(); }
  }

  sampled answer(asked const& a) {
    if (a.wrong) { std::rethrow_exception(a.wrong); }
    if (wrong_) { std::rethrow_exception(wrong_); }
    sampled const result = rows_.result(a.request.slot, a.request);
    held_[a.request.slot].turn = ++turns_;
    *a.memory = {rows_.memory(a.request.slot), turns_};
    return result;
  }

  Rows& rows_;
  std::vector<held> held_;    // by slot
  std::vector<asked> asked_;  // in this round
  std::vector<asked> taken_;  // in the one before
  std::vector<batch_row> batch_;
  std::exception_ptr wrong_;  // with the whole batch
  std::uint64_t turns_ = 0;
};

}  // namespace tpx
