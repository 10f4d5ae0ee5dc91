// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/page_contents.hpp>
#include <tpx/generator/page_list.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx::detail {

/// The host tier: full pages that were evicted, least recently used first. What lies here may lie
/// in the model's cache too, in page `page`.
template <std::size_t PageSize>
class host_tier {
 public:
  explicit host_tier(std::size_t pages)
      : entries_(pages), tokens_{pages}, index_{pages}, recent_{pages} {
    for (std::uint32_t h = 0; h < pages; ++h) { recent_.push_back(h); }
  }

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] page_identity const& identity(std::uint32_t h) const {
    return entries_[h].identity;
  }
  [[nodiscard]] page_id page(std::uint32_t h) const { return entries_[h].page; }
  void set_page(std::uint32_t h, page_id page) { entries_[h].page = page; }
  [[nodiscard]] std::span<token_id const> tokens(std::uint32_t h) const {
    return tokens_.row(h, PageSize);
  }
  [[nodiscard]] page_chains const& index() const { return index_; }

  [[nodiscard]] std::uint32_t find(hash128 key, page_origin origin,
                                   std::span<token_id const> tokens) const {
    auto const identity = [this](std::uint32_t h) -> page_identity const& {
      return entries_[h].identity;
    };
    return find_page(index_, tokens_, identity, key, origin, tokens);
  }

  /// While a page is pinned it is not the oldest().
  void pin(std::uint32_t h) { recent_.erase(h); }
  void unpin(std::uint32_t h) { recent_.push_back(h); }
  [[nodiscard]] bool pinned(std::uint32_t h) const { return !recent_.contains(h); }

  /// The least recently used page; no_page if all are pinned.
  [[nodiscard]] std::uint32_t oldest() const {
    return recent_.size() == 0 ? no_page : recent_.front();
  }

  void use(std::uint32_t h) {
    if (pinned(h)) { return; }
    recent_.erase(h);
    recent_.push_back(h);
  }

  void put(std::uint32_t h, page_identity const& identity, page_id page,
           std::span<token_id const> tokens) {
    entries_[h] = {identity, page};
    tokens_.write(h, 0, tokens);
    index_.insert(h, identity.key.low);
    use(h);
  }

  void drop(std::uint32_t h) {
    index_.erase(h, entries_[h].identity.key.low);
    entries_[h] = {};
  }

 private:
  struct entry {
    page_identity identity;
    page_id page = no_page;
  };

  std::vector<entry> entries_;
  page_tokens<PageSize> tokens_;
  page_chains index_;
  page_list recent_;
};

}  // namespace tpx::detail
