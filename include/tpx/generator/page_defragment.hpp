// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_plan.hpp>
#include <tpx/generator/page_sequences.hpp>

#include <cstddef>
#include <cstdint>

namespace tpx::detail {

/// Brings the pages of every chain side by side, a few at a time. A step takes what is in one page
/// to a blank one, which leaves another blank: a cycle of pages goes round with one spare page, and
/// after each step all is as consistent as before.
class page_defragmenter {
 public:
  explicit page_defragmenter(std::size_t pages) : plan_{pages} {}

  template <class Sequences>
  std::size_t run(Sequences& sequences, std::size_t max_moves) {
    auto& pool = sequences.pool;
    if (plan_.next() == no_page) {
      if (settled_ == pool.changes()) { return 0; }
      plan_.clear();
      sequences.visit_chains([&](page_id page, bool follows) { plan_.add(page, follows); });
      plan_.solve();
      if (plan_.next() == no_page) { settled_ = pool.changes(); }
    }
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

 private:
  page_plan plan_;
  std::uint64_t settled_ = ~std::uint64_t{0};
};

}  // namespace tpx::detail
