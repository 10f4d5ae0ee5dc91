// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_sequences.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx::detail {

/// Which pages should lie side by side, and how many do.
class page_layout {
 public:
  explicit page_layout(std::size_t pages) : marks_(pages, 0) {}

  /// Every page that is not blank, once: those of open sequences, then the idle ones, the latest
  /// first. `visit(page, follows)`: whether it comes right after the page visited before.
  template <class Sequences, class Visit>
  void visit(Sequences const& sequences, Visit&& visit) {
    ++mark_;
    for (std::uint32_t s = 0; s < sequences.scratch(); ++s) {
      bool follows = false;
      for (page_id const page : std::span{sequences.row(s), sequences[s].pages}) {
        if (marks_[page] == mark_) { continue; }
        marks_[page] = mark_;
        visit(page, follows);
        follows = true;
      }
    }
    auto const& idle = sequences.pool.idle();
    page_origin next{};
    for (auto page = idle.previous(idle.end()); page != idle.end(); page = idle.previous(page)) {
      page_identity const& known = sequences.pool.contents.identity(page);
      visit(page, next.depth != 0 && known.origin == next);
      next = {known.serial, known.serial == 0 ? 0 : known.origin.depth + 1};
    }
  }

  /// Of the pages that come right after another one in a sequence, the share that do not lie so.
  template <class Sequences>
  [[nodiscard]] double fragmentation(Sequences const& sequences) {
    std::size_t pairs = 0;
    std::size_t apart = 0;
    page_id before = no_page;
    visit(sequences, [&](page_id page, bool follows) {
      pairs += follows ? 1 : 0;
      apart += follows && page != before + 1 ? 1 : 0;
      before = page;
    });
    return pairs == 0 ? 0 : static_cast<double>(apart) / static_cast<double>(pairs);
  }

 private:
  std::vector<std::uint64_t> marks_;  // the last visit to a page
  std::uint64_t mark_ = 0;
};

}  // namespace tpx::detail
