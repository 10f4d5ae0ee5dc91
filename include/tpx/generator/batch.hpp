// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/scheduler_run.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace tpx::detail {

/// What one step computes: the runs that take part, and their parts as a model wants them.
///
/// First every run that lacks one token, which is a decode step; then chunks of what the others
/// lack; then drafts, where no prompt waits to be read. Each of the three in the order of the
/// queue, until the budget is spent. A run's contexts come to their ends in the same step, for
/// their logits make one row.
template <class Pages, class Run>
class batch {
 public:
  /// Room for `max_contexts` parts, so that a step allocates nothing.
  explicit batch(std::size_t max_contexts) {
    runs_.reserve(max_contexts);
    parts_.reserve(max_contexts);
  }

  /// Shares out at most `budget` tokens. Returns what is left of it for drafts.
  template <class Running>
  std::size_t share(Running const& running, std::size_t budget) {
    bool waits = false;  // a prompt
    for (auto const& run : running) {
      run->clear_plan();
      if (run->decoding()) { budget -= take(*run, budget); }
    }
    for (auto const& run : running) {
      if (!run->decoding()) {
        budget -= take(*run, budget);
        waits = waits || run->rows == 0;
      }
    }
    return waits ? 0 : budget;
  }

  /// How many tokens a draft for `run` may have, of `left` in the budget.
  [[nodiscard]] std::size_t most_draft(Run const& run, std::size_t left) const {
    if (run.rows == 0) { return 0; }
    std::size_t most = std::min({run.left - 1, run.room - 1, left / run.contexts.size()});
    for (auto const& c : run.contexts) { most = std::min(most, c.stop - c.cached - c.planned); }
    return most;
  }

  /// The parts of what was shared out, and of drafts that were put behind the tokens since.
  template <class Running>
  void gather(Running const& running, Pages& pages) {
    clear();
    std::size_t row = 0;
    for (auto const& run : running) {
      if (run->planned() == 0) { continue; }
      runs_.push_back(run.get());
      for (auto& c : run->contexts) {
        if (c.planned == 0) { continue; }
        c.row = std::exchange(row, row + run->rows);
        parts_.push_back({std::span{std::as_const(c.tokens)}.subspan(c.cached, c.planned), c.cached,
                          pages.prepare(c.sequence, c.planned), run->rows, c.sequence});
      }
    }
  }

  /// Before a step is planned, all runs take part in what may go wrong.
  template <class Running>
  void begin(Running const& running) {
    clear();
    for (auto const& run : running) { runs_.push_back(run.get()); }
  }

  [[nodiscard]] std::vector<step_part> const& parts() const { return parts_; }
  [[nodiscard]] std::vector<Run*> const& runs() const { return runs_; }

 private:
  void clear() {
    runs_.clear();
    parts_.clear();
  }

  /// All that the run lacks if it fits in `left`, and then it gets logits; else as much as fits of
  /// all but the last tokens. Returns how many tokens that is.
  static std::size_t take(Run& run, std::size_t left) {
    std::size_t lacking = 0;
    bool whole = true;
    for (auto const& c : run.contexts) {
      lacking += c.pending();
      whole = whole && c.tokens.size() <= c.stop;
    }
    whole = whole && lacking <= left;
    run.rows = whole ? 1 : 0;
    for (auto& c : run.contexts) {
      c.planned = whole ? c.pending() : std::min({c.pending() - 1, left, c.stop - c.cached});
      left -= c.planned;
    }
    return run.planned();
  }

  std::vector<Run*> runs_;
  std::vector<step_part> parts_;
};

}  // namespace tpx::detail
