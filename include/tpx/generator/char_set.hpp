// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/grammar_utf8.hpp>

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <span>
#include <vector>

namespace tpx::detail {

/// A set of code points.
class char_set {
 public:
  char_set() = default;
  char_set(std::initializer_list<char_range> ranges) {
    for (auto const& range : ranges) { add(range); }
  }

  void add(char_range range) {
    auto const begin =
      std::ranges::partition_point(ranges_, [&](char_range r) { return r.last + 1 < range.first; });
    auto const end = std::partition_point(begin, ranges_.end(),
                                          [&](char_range r) { return r.first <= range.last + 1; });
    if (begin != end) {
      range = {std::min(range.first, begin->first), std::max(range.last, std::prev(end)->last)};
    }
    ranges_.insert(ranges_.erase(begin, end), range);
  }

  void add(char_set const& set) {
    for (auto const& range : set.ranges_) { add(range); }
  }

  /// All that are not in this set.
  [[nodiscard]] char_set complement() const {
    char_set others;
    char32_t next = 0;
    for (auto const& range : ranges_) {
      if (range.first > next) { others.ranges_.push_back({next, range.first - 1}); }
      next = range.last + 1;
    }
    if (next <= last_char) { others.ranges_.push_back({next, last_char}); }
    return others;
  }

  /// Those that are in `set` too.
  [[nodiscard]] char_set operator&(char_set const& set) const {
    char_set neither = complement();
    neither.add(set.complement());
    return neither.complement();
  }

  [[nodiscard]] bool contains(char32_t c) const {
    return std::any_of(ranges_.begin(), ranges_.end(),
                       [c](char_range r) { return r.first <= c && c <= r.last; });
  }

  /// Sorted, with gaps between them.
  [[nodiscard]] std::span<char_range const> ranges() const { return ranges_; }

 private:
  std::vector<char_range> ranges_;
};

}  // namespace tpx::detail
