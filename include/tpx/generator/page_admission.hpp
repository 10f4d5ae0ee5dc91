// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_hash.hpp>
#include <tpx/generator/page_stats.hpp>
#include <tpx/generator/page_writer.hpp>
#include <tpx/generator/token.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tpx {

/// A sequence that is to be opened: it begins with `tokens`, at least one, and has pages for `room`
/// positions after them.
struct page_wish {
  std::span<token_id const> tokens;
  std::size_t room;
  std::uint64_t salt = 0;
};

/// What there was when a sequence could not be opened.
struct page_shortage {
  std::size_t pages;      // that nobody had
  std::size_t sequences;  // that might have been opened besides
  hash128 missing;        // key of the first whole page of its tokens that was not found
  std::uint64_t having;   // stands for the pages that had this key all the same
};

namespace detail {

/// Which sequences are open, and whether another one can be.
template <std::size_t PageSize, page_hash Hash>
class page_admission : public page_writer<PageSize, Hash> {
  using base = page_writer<PageSize, Hash>;

 public:
  using base::find;
  using base::pages_for;
  using base::pool;
  using base::row;
  using base::scratch;
  using typename base::sequence_id;

  explicit page_admission(page_table_options const& options) : base{options} {
    free_.reserve(options.max_sequences);
    for (auto s = scratch(); s-- > 0;) { free_.push_back(s); }
  }

  /// nullopt: not enough pages or sequences now, and nothing has changed.
  [[nodiscard]] std::optional<sequence_id> open(page_wish const& wish) {
    missing_ = {};
    if (free_.empty()) { return std::nullopt; }
    sequence_id const s = free_.back();
    auto const found = find(s, wish.tokens.first(wish.tokens.size() - 1), wish.salt);
    std::size_t const pages = pages_for(wish.tokens.size() + wish.room);
    std::size_t const fresh = pages - found.device + found.reserved;
    std::size_t const spare = pool.available() - found.idle;
    if (fresh > spare) {
      missing_ = found.missing;
      return std::nullopt;
    }
    free_.pop_back();
    bool const whole_source =
      found.common != 0 && pool.contents.filled(found.source) == found.common;
    this->begin(s, found, wish.salt, whole_source || fresh == spare);
    this->reserve(s, pages);
    page_table_stats& stats = pool.stats;
    ++stats.sequences;
    stats.tokens += wish.tokens.size();
    stats.cached_tokens += (*this)[s].length;
    stats.hit_pages += found.device;
    stats.partial_hits += found.common != 0 ? 1 : 0;
    return s;
  }

  void close(sequence_id s) {
    this->end(s);
    free_.push_back(s);
  }

  [[nodiscard]] page_shortage shortage() const {
    return {pool.available(), free_.size(), missing_, pool.contents.having(missing_)};
  }
  [[nodiscard]] bool eased(page_shortage const& since) const {
    return pool.available() > since.pages || free_.size() > since.sequences ||
           pool.contents.having(since.missing) != since.having;
  }

  /// Whether all of `wanted` could be opened if those of `closing` were closed. What several of
  /// `wanted` have in common is counted for each.
  [[nodiscard]] bool fit_without(std::span<page_wish const> wanted,
                                 std::span<sequence_id const> closing) {
    auto const each_page = [&](auto visit) {
      for (auto const s : closing) {
        for (page_id const page : std::span{row(s), (*this)[s].pages}) { visit(pool[page]); }
      }
    };
    std::size_t spare = pool.available();
    each_page([&](page_claim& claim) { spare += --claim.refs == 0 ? 1 : 0; });
    std::size_t needed = 0;
    for (auto const& wish : wanted) {
      auto const found = find(scratch(), wish.tokens.first(wish.tokens.size() - 1), wish.salt);
      needed += pages_for(wish.tokens.size() + wish.room) - found.device;
      for (page_id const page : std::span{row(scratch()), found.device}) {
        needed += pool[page].refs == 0 || pool[page].owner != no_page ? 1 : 0;
      }
    }
    each_page([](page_claim& claim) { ++claim.refs; });
    return wanted.size() <= free_.size() + closing.size() && needed <= spare;
  }

 private:
  std::vector<sequence_id> free_;
  hash128 missing_;  // of what was last refused
};

}  // namespace detail
}  // namespace tpx
