// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/page_chains.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx::detail {

/// Where pages should lie so that every chain lies in one piece, with few moves: each chain would
/// like to stay where its longest piece is; in the order of these wishes the chains get places one
/// behind the other, and between them stay as many other pages as there are. O(pages), and a sort
/// of the chains. A plan stays good enough while pages change; following it is safe at any time.
class page_plan {
 public:
  explicit page_plan(std::size_t pages) : comes_(pages, no_page), goes_(pages, no_page) {
    pages_.reserve(pages);
    chains_.reserve(pages);
  }

  void clear() {
    std::fill(comes_.begin(), comes_.end(), no_page);
    std::fill(goes_.begin(), goes_.end(), no_page);
    pages_.clear();
    chains_.clear();
    next_ = 0;
  }

  /// Adds a page to the last chain, or begins one with it.
  void add(page_id page, bool follows) {
    if (!follows) { chains_.push_back({pages_.size(), 0, 0}); }
    pages_.push_back(page);
    ++chains_.back().size;
  }

  void solve() {
    std::size_t slack = comes_.size();
    std::erase_if(chains_, [](chain const& c) { return c.size == 1; });
    for (chain& c : chains_) {
      c.wish = wish(std::span{pages_}.subspan(c.begin, c.size));
      slack -= c.size;
    }
    std::sort(chains_.begin(), chains_.end(),
              [](chain const& a, chain const& b) { return a.wish < b.wish; });
    std::size_t place = 0;
    for (chain const& c : chains_) {
      std::size_t const gap = c.wish > place ? std::min(c.wish - place, slack) : 0;
      slack -= gap;
      place += gap;
      for (std::size_t i = 0; i < c.size; ++i, ++place) {
        comes_[place] = pages_[c.begin + i];
        goes_[comes_[place]] = static_cast<page_id>(place);
      }
    }
  }

  /// The page that should come to `place`; no_page if any may.
  [[nodiscard]] page_id comes(page_id place) const { return comes_[place]; }

  /// What was in page `from` is in page `to` now.
  void moved(page_id from, page_id to) {
    if (goes_[to] != no_page) { comes_[goes_[to]] = no_page; }
    goes_[to] = goes_[from];
    goes_[from] = no_page;
    if (goes_[to] != no_page) { comes_[goes_[to]] = to; }
  }

  /// Nothing needs to come to `place` any more.
  void settle(page_id place) {
    goes_[comes_[place]] = no_page;
    comes_[place] = no_page;
  }

  /// Whether another page than is there should come to `place`.
  [[nodiscard]] bool wanted(page_id place) const {
    return comes_[place] != no_page && comes_[place] != place;
  }

  /// The next place to which a page should come; no_page when all are where they should be.
  [[nodiscard]] page_id next() {
    while (next_ < comes_.size() && !wanted(static_cast<page_id>(next_))) { ++next_; }
    return next_ < comes_.size() ? static_cast<page_id>(next_) : no_page;
  }

 private:
  struct chain {
    std::size_t begin;  // in pages_
    std::size_t size;
    std::size_t wish;
  };

  /// The place of a chain's first page for which the longest run of its pages can stay.
  [[nodiscard]] std::size_t wish(std::span<page_id const> pages) const {
    std::size_t best = 0;
    std::size_t longest = 0;
    for (std::size_t begin = 0, i = 1; i <= pages.size(); ++i) {
      if (i < pages.size() && pages[i] == pages[i - 1] + 1) { continue; }
      if (i - begin > longest && pages[begin] >= begin) {
        longest = i - begin;
        best = pages[begin] - begin;
      }
      begin = i;
    }
    return std::min(best, comes_.size() - pages.size());
  }

  std::vector<page_id> comes_;  // by place: the page whose contents should lie there
  std::vector<page_id> goes_;   // by page: the place where its contents should lie
  std::vector<page_id> pages_;  // of the chains, one after the other
  std::vector<chain> chains_;
  std::size_t next_ = 0;
};

}  // namespace tpx::detail
