// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_chains.hpp>
#include <tpx/generator/page_hash.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace tpx::detail {

/// Where a page stands: `parent` is the serial number of the page before it, or the salt of a first
/// page. Every full page that is made gets a serial number of its own, which no other ever has. So
/// pages with the same origin and tokens have the same tokens before them, whatever their keys.
struct page_origin {
  std::uint64_t parent = 0;
  std::uint32_t depth = 0;  // pages before it

  friend constexpr bool operator==(page_origin const&, page_origin const&) = default;
};

/// What a full page is known by.
struct page_identity {
  hash128 key;
  page_origin origin;
  std::uint64_t serial = 0;  // 0: none
};

/// The tokens of pages, a row a page.
template <std::size_t PageSize>
class page_tokens {
 public:
  explicit page_tokens(std::size_t pages)
      : tokens_{std::make_unique_for_overwrite<token_id[]>(pages * PageSize)} {}

  [[nodiscard]] std::span<token_id const> row(std::uint32_t page, std::size_t tokens) const {
    return {tokens_.get() + page * PageSize, tokens};
  }

  /// Writes `tokens` from position `at` of a page on.
  void write(std::uint32_t page, std::size_t at, std::span<token_id const> tokens) {
    std::memmove(tokens_.get() + page * PageSize + at, tokens.data(), tokens.size_bytes());
  }

  [[nodiscard]] bool equal(std::uint32_t page, std::span<token_id const> tokens) const {
    return std::memcmp(tokens_.get() + page * PageSize, tokens.data(), tokens.size_bytes()) == 0;
  }

 private:
  std::unique_ptr<token_id[]> tokens_;
};

/// Finds the page with a key, an origin and tokens among those of `index`, or no_page.
/// `identity(page)` gives the page's page_identity.
template <std::size_t PageSize, class Identity>
[[nodiscard]] std::uint32_t find_page(page_chains const& index,
                                      page_tokens<PageSize> const& contents, Identity&& identity,
                                      hash128 key, page_origin origin,
                                      std::span<token_id const> tokens) {
  for (auto page = index.first(key.low); page != no_page; page = index.next(page)) {
    page_identity const& known = identity(page);
    if (known.key == key && known.origin == origin && contents.equal(page, tokens)) { return page; }
  }
  return no_page;
}

}  // namespace tpx::detail
