// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/drafter.hpp>
#include <tpx/generator/token.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx {

/// For a generator without drafts.
struct no_drafter {
  void open(std::uint32_t, std::size_t) {}
  void propose(std::span<draft_request const>) {}
  [[nodiscard]] std::span<token_id const> tokens(std::uint32_t) const { return {}; }
  [[nodiscard]] token_distribution drawn_from(std::uint32_t, std::size_t) const { return {}; }
  void rewind(std::uint32_t, std::size_t) {}
  void copy(std::span<page_copy const>) {}
};

namespace detail {

/// The draft of one run, as long as it was put behind its tokens.
template <class Drafter>
struct run_draft {
  Drafter const& drafter;
  std::uint32_t slot;
  std::size_t length;

  [[nodiscard]] token_id operator[](std::size_t i) const { return drafter.tokens(slot)[i]; }
  [[nodiscard]] token_distribution drawn_from(std::size_t i) const {
    return drafter.drawn_from(slot, i);
  }
};

/// One round of drafts: what is asked of the drafter, and put behind the runs' tokens.
template <class Drafter>
class draft_round {
 public:
  draft_round(Drafter& drafter, std::size_t max_batch) : drafter_{drafter} {
    requests_.reserve(max_batch);
  }

  /// `left`: tokens of the step's budget. A drafter that throws costs a round of drafts.
  template <class Running, class Batch, class Pages>
  void draft(Running const& running, Batch const& batch, Pages& pages, std::size_t left) {
    requests_.clear();
    for (auto const& run : running) {
      if (run->options->max_draft == 0) { continue; }
      auto const& c = run->contexts[0];
      auto const most = std::min<std::size_t>(run->window.size(), batch.most_draft(*run, left));
      left -= most * run->contexts.size();
      // Of a prompt no more than the target has after this step: what it has not is not copied with
      // its page. The drafter writes to the pages too.
      requests_.push_back({c.sequence, most, std::span{c.tokens}.first(c.cached + c.planned),
                           pages.prepare(c.sequence, c.planned + most),
                           run->options->seed + run->sequence});
    }
    if (requests_.empty()) { return; }
    try {
      drafter_.propose(requests_);
    } catch (...) { return; }
    std::size_t next = 0;
    for (auto const& run : running) {
      if (run->options->max_draft > 0 && requests_[next++].most > 0) {
        run->draft(drafter_.tokens(run->contexts[0].sequence));
      }
    }
  }

 private:
  Drafter& drafter_;
  std::vector<draft_request> requests_;
};

}  // namespace detail

}  // namespace tpx
