// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/page_identity.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tpx::detail {

/// What the pages of the cache hold, and how that is found: full pages by key, all by their first
/// tokens too.
template <std::size_t PageSize, page_hash Hash>
class page_contents {
 public:
  /// A page is found by its first tokens if it has as many: fewer are not worth a copy.
  static constexpr std::size_t start_tokens = PageSize < 32 ? 1 : PageSize / 16;

  explicit page_contents(std::size_t pages)
      : entries_(pages), tokens_{pages}, index_{pages}, starts_{pages} {}

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] page_identity const& identity(page_id page) const {
    return entries_[page].identity;
  }
  [[nodiscard]] std::size_t filled(page_id page) const { return entries_[page].filled; }

  /// Whether the page can be found by its key, which begins a moment after it was filled.
  [[nodiscard]] bool named(page_id page) const { return identity(page).serial != 0; }

  [[nodiscard]] std::span<token_id const> tokens(page_id page) const {
    return tokens_.row(page, filled(page));
  }

  [[nodiscard]] page_id find(hash128 key, page_origin origin,
                             std::span<token_id const> tokens) const {
    auto const known = [this](page_id page) -> page_identity const& { return identity(page); };
    return find_page(index_, tokens_, known, key, origin, tokens);
  }

  /// Stands for which pages have this key: several, if what came before them is not the same page.
  [[nodiscard]] std::uint64_t having(hash128 const& key) const {
    std::uint64_t sum = 0;
    for (page_id page = index_.first(key.low); page != no_page; page = index_.next(page)) {
      if (identity(page).key == key) { sum += identity(page).serial; }
    }
    return sum;
  }

  /// The page that begins with most of `tokens`, and how many: of those with the same first
  /// start_tokens the newest few are looked at.
  [[nodiscard]] std::pair<page_id, std::size_t> find_start(page_origin origin,
                                                           std::span<token_id const> tokens) const {
    std::pair<page_id, std::size_t> best{no_page, 0};
    if (tokens.size() < start_tokens) { return best; }
    page_id page = starts_.first(start_hash(origin, tokens));
    for (int looks = 32; looks != 0 && page != no_page; --looks, page = starts_.next(page)) {
      if (!(identity(page).origin == origin)) { continue; }
      auto const held = this->tokens(page);
      auto const differs = std::mismatch(held.begin(), held.end(), tokens.begin(), tokens.end());
      auto const common = static_cast<std::size_t>(differs.first - held.begin());
      if (common >= start_tokens && common > best.second) { best = {page, common}; }
    }
    return best;
  }

  /// Whether find_start() can come across a page.
  [[nodiscard]] bool has_start(page_id page) const {
    page_id other = starts_.first(entries_[page].start);
    while (other != no_page && other != page) { other = starts_.next(other); }
    return other == page;
  }

  /// A page that holds nothing begins at `origin`.
  void start(page_id page, page_origin origin) { entries_[page].identity = {{}, origin, 0}; }

  /// `tokens` come after those that the page holds.
  void extend(page_id page, std::span<token_id const> tokens) {
    entry& e = entries_[page];
    auto const before = e.filled;
    tokens_.write(page, before, tokens);
    e.filled += static_cast<std::uint32_t>(tokens.size());
    if (before < start_tokens && e.filled >= start_tokens) {
      e.start = start_hash(e.identity.origin, this->tokens(page));
      starts_.insert(page, e.start);
    }
  }

  /// A full page can be found by this key from now on.
  void name(page_id page, hash128 key, std::uint64_t serial) {
    page_identity& known = entries_[page].identity;
    known.key = key;
    known.serial = serial;
    index_.insert(page, key.low);
  }

  /// Keeps the first `tokens` of a page, which then has no name.
  void truncate(page_id page, std::size_t tokens) {
    entry& e = entries_[page];
    if (e.filled >= start_tokens && tokens < start_tokens) { starts_.erase(page, e.start); }
    if (named(page)) { index_.erase(page, e.identity.key.low); }
    e.identity.serial = 0;
    e.filled = static_cast<std::uint32_t>(tokens);
  }

  /// What `from` holds is in `to` from now on, which held nothing, and `from` holds nothing.
  void relocate(page_id from, page_id to) {
    entry const e = entries_[from];
    tokens_.write(to, 0, tokens(from));
    truncate(from, 0);
    entries_[to] = e;
    if (e.filled >= start_tokens) { starts_.insert(to, e.start); }
    if (named(to)) { index_.insert(to, e.identity.key.low); }
  }

 private:
  struct alignas(64) entry {
    page_identity identity;
    std::uint64_t start = 0;  // hash of origin and first tokens, if there are enough of these
    std::uint32_t filled = 0;
  };

  [[nodiscard]] static std::uint64_t start_hash(page_origin origin,
                                                std::span<token_id const> tokens) {
    return Hash::chain({origin.parent, origin.depth}, tokens.first(start_tokens)).low;
  }

  std::vector<entry> entries_;
  page_tokens<PageSize> tokens_;
  page_chains index_;   // named pages by key
  page_chains starts_;  // pages by origin and first tokens
};

}  // namespace tpx::detail
