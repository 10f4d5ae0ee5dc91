// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tpx::detail {

/// No page, or the end of a list of pages.
inline constexpr std::uint32_t no_page = ~std::uint32_t{0};

/// Finds pages 0, 1, ... < pages by a 64-bit hash, of which several may have the same. A bucket is
/// a doubly linked list through the pages, newest first, so adding and taking out cost O(1) however
/// many pages share a hash, and nothing is allocated after construction.
class page_chains {
 public:
  explicit page_chains(std::size_t pages)
      : heads_(std::bit_ceil(2 * pages + 1), no_page), links_(pages) {}

  void insert(std::uint32_t page, std::uint64_t hash) {
    std::uint32_t& head = heads_[bucket(hash)];
    links_[page] = {no_page, head};
    if (head != no_page) { links_[head].previous = page; }
    head = page;
  }

  /// `hash` must be what `page` was inserted with.
  void erase(std::uint32_t page, std::uint64_t hash) {
    auto const [previous, next] = links_[page];
    (previous == no_page ? heads_[bucket(hash)] : links_[previous].next) = next;
    if (next != no_page) { links_[next].previous = previous; }
  }

  /// The newest page that may have `hash`; the next of them; no_page at the end.
  [[nodiscard]] std::uint32_t first(std::uint64_t hash) const { return heads_[bucket(hash)]; }
  [[nodiscard]] std::uint32_t next(std::uint32_t page) const { return links_[page].next; }

 private:
  struct link {
    std::uint32_t previous;
    std::uint32_t next;
  };

  [[nodiscard]] std::size_t bucket(std::uint64_t hash) const {
    return static_cast<std::size_t>(hash) & (heads_.size() - 1);
  }

  std::vector<std::uint32_t> heads_;
  std::vector<link> links_;
};

}  // namespace tpx::detail
