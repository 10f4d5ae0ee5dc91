// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/scheduler_run.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

namespace tpx::detail {

/// What one step computes: the runs that take part, and their parts as a model wants them.
///
/// First every run that lacks one token, which is a decode step; then chunks of what the others
/// lack; then drafts, which are worth it only where computing power is left. Each of the three in
/// the order of the queue, until the budget is spent. A run's contexts come to their ends in the
/// same step, for their logits are one row.
template <class Pages, class Run>
class batch {
 public:
  /// Room for `max_contexts` parts, so that a step allocates nothing.
  explicit batch(std::size_t max_contexts) {
    runs_.reserve(max_contexts);
    parts_.reserve(max_contexts);
  }

  /// Plans at most `budget` tokens. draft(run, n): sets run.draft to n tokens or fewer; n is at
  /// least 1. Only where the tokens in front of multiples of `stride` are the last of a chunk can a
  /// recurrent state be kept.
  template <class Running, class Draft>
  void plan(Running const& running, Pages const& pages, std::size_t budget, std::size_t stride,
            Draft&& draft) {
    runs_.clear();
    parts_.clear();
    tokens_ = 0;
    rows_ = 0;
    auto const take = [&](Run& run) {
      if (tokens_ < budget && plan_run(run, budget - tokens_, stride)) { tokens_ += run.planned(); }
    };
    for (auto const& run : running) {
      run->clear_plan();
      if (run->decoding()) { take(*run); }
    }
    bool prefill = false;
    for (auto const& run : running) {
      if (!run->decoding()) {
        prefill = true;
        take(*run);
      }
    }
    for (auto const& run : running) {
      if (!prefill && tokens_ < budget) { plan_draft(*run, budget - tokens_, stride, draft); }
      add(*run, pages);
    }
  }

  [[nodiscard]] std::vector<step_part> const& parts() const { return parts_; }
  [[nodiscard]] std::vector<Run*> const& runs() const { return runs_; }
  [[nodiscard]] std::size_t tokens() const { return tokens_; }

 private:
  static std::size_t to_stride(context const& c, std::size_t stride) {
    return stride == 0 ? std::numeric_limits<std::size_t>::max() : stride - c.cached % stride;
  }

  /// All that the run lacks if it fits in `left`, and then it gets logits; else as much as fits of
  /// all but the last tokens.
  static bool plan_run(Run& run, std::size_t left, std::size_t stride) {
    std::size_t lacking = 0;
    bool whole = true;
    for (auto const& c : run.contexts) {
      lacking += c.pending();
      whole = whole && c.pending() <= to_stride(c, stride);
    }
    whole = whole && lacking <= left;
    run.rows = whole ? 1 : 0;
    for (auto& c : run.contexts) {
      c.planned = whole ? c.pending() : std::min({c.pending() - 1, left, to_stride(c, stride)});
      left -= c.planned;
    }
    return run.planned() > 0;
  }

  template <class Draft>
  void plan_draft(Run& run, std::size_t left, std::size_t stride, Draft&& draft) {
    if (run.rows == 0) { return; }
    std::size_t most =
      std::min({run.max_draft, run.left - 1, run.room - 1, left / run.contexts.size()});
    for (auto const& c : run.contexts) { most = std::min(most, to_stride(c, stride) - c.planned); }
    if (most == 0) { return; }
    draft(run, most);
    run.rows += run.draft.size();
    tokens_ += run.draft.size() * run.contexts.size();
    for (auto& c : run.contexts) {
      c.tokens.insert(c.tokens.end(), run.draft.begin(), run.draft.end());
      c.planned += run.draft.size();
    }
  }

  void add(Run& run, Pages const& pages) {
    if (run.planned() == 0) { return; }
    runs_.push_back(&run);
    for (auto& c : run.contexts) {
      if (c.planned == 0) { continue; }
      c.row = rows_;
      rows_ += run.rows;
      parts_.push_back({std::span<token_id const>{c.tokens}.subspan(c.cached, c.planned), c.cached,
                        pages.pages(c.sequence), run.rows, c.slot});
    }
  }

  std::vector<Run*> runs_;
  std::vector<step_part> parts_;
  std::size_t tokens_ = 0;
  std::size_t rows_ = 0;
};

}  // namespace tpx::detail
