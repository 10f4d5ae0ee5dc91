// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tpx::detail {

/// A list of some of the pages 0, 1, ... < pages, each at most once. All members cost O(1) and
/// allocate nothing.
class page_list {
 public:
  explicit page_list(std::size_t pages) : links_(pages + 1) {
    for (std::uint32_t i = 0; i <= pages; ++i) { links_[i] = {i, i}; }
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool contains(std::uint32_t page) const { return links_[page].next != page; }

  /// end() comes after the last page and before the first.
  [[nodiscard]] std::uint32_t end() const { return static_cast<std::uint32_t>(links_.size() - 1); }
  [[nodiscard]] std::uint32_t next(std::uint32_t page) const { return links_[page].next; }
  [[nodiscard]] std::uint32_t previous(std::uint32_t page) const { return links_[page].previous; }
  [[nodiscard]] std::uint32_t front() const { return next(end()); }

  void insert_before(std::uint32_t place, std::uint32_t page) {
    links_[page] = {links_[place].previous, place};
    links_[links_[place].previous].next = page;
    links_[place].previous = page;
    ++size_;
  }

  void push_back(std::uint32_t page) { insert_before(end(), page); }
  void push_front(std::uint32_t page) { insert_before(front(), page); }

  void erase(std::uint32_t page) {
    auto const [previous, next] = links_[page];
    links_[previous].next = next;
    links_[next].previous = previous;
    links_[page] = {page, page};
    --size_;
  }

 private:
  struct link {
    std::uint32_t previous;
    std::uint32_t next;
  };

  std::vector<link> links_;
  std::size_t size_ = 0;
};

}  // namespace tpx::detail
