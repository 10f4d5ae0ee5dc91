// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_layout.hpp>
#include <tpx/generator/page_plan.hpp>

#include <cstddef>
#include <cstdint>

namespace tpx::detail {

/// Brings the pages of every chain side by side, a few at a time. A step takes what is in one page
/// to a blank one, which leaves another blank: a cycle of pages goes round with one spare page, and
/// after each step all is as consistent as before.
class page_defragmenter {
 public:
  explicit page_defragmenter(std::size_t pages)
      : layout_{pages}, plan_{pages}, rest_{pages / pages_a_call}, rested_{rest_} {}

  /// Makes a plan when it has carried out the last one and pages have got into other hands since,
  /// but in one call of pages / 64 at most: a plan costs O(pages), so that a call costs O(64) on
  /// the average, however fast pages change. Else O(max_moves x sequences).
  template <class Sequences>
  std::size_t run(Sequences& sequences, std::size_t max_moves) {
    std::size_t const moves = follow(sequences, max_moves);
    if (rested_ < rest_) { ++rested_; }
    if (moves != 0 || settled_ == sequences.pool.changes || rested_ < rest_) { return moves; }
    rested_ = 0;
    ++sequences.pool.stats.plans;
    plan_.clear();
    layout_.visit(sequences, [&](page_id page, bool follows) { plan_.add(page, follows); });
    plan_.solve();
    settled_ = sequences.pool.changes;
    return follow(sequences, max_moves);
  }

  template <class Sequences>
  [[nodiscard]] double fragmentation(Sequences const& sequences) {
    return layout_.fragmentation(sequences);
  }

 private:
  static constexpr std::size_t pages_a_call = 64;

  template <class Sequences>
  std::size_t follow(Sequences& sequences, std::size_t max_moves) {
    auto& pool = sequences.pool;
    std::size_t moves = 0;
    auto const move = [&](page_id from, page_id to) {
      sequences.relocate(from, to);
      plan_.moved(from, to);
      ++moves;
    };
    for (page_id place = plan_.next(); place != no_page && moves < max_moves;) {
      page_id const page = plan_.comes(place);
      if (!plan_.wanted(place)) {
        place = plan_.next();
      } else if (pool.blank().contains(page)) {  // what it held when the plan was made is gone
        plan_.settle(place);
      } else if (pool.blank().contains(place)) {
        move(page, place);
        place = page;
      } else if (pool.available() != 0) {
        page_id const spare = pool.take();
        pool.evict(spare);
        pool.release(spare);
        move(place, spare);
      } else {
        break;
      }
    }
    return moves;
  }

  page_layout layout_;
  page_plan plan_;
  std::size_t rest_;                           // calls from one plan to the next, at least
  std::size_t rested_;                         // calls since the last plan, up to rest_
  std::uint64_t settled_ = ~std::uint64_t{0};  // the pool's changes when the plan was made
};

}  // namespace tpx::detail
