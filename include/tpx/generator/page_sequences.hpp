// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_pool.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tpx::detail {

struct page_sequence {
  std::size_t length = 0;    // positions whose tokens are known
  std::size_t writable = 0;  // end of the positions that were prepared
  std::size_t pages = 0;     // of its block table
  std::uint64_t salt = 0;
  bool open = false;
};

/// What is there of a prompt: whole pages in the cache, whole pages in the host tier after them,
/// and a part of a page after these.
struct page_prefix {
  std::size_t device = 0;
  std::size_t host = 0;
  std::size_t idle = 0;      // of the pages in the cache
  std::size_t reserved = 0;  // of them too
  page_id source = no_page;
  std::size_t common = 0;  // tokens of it
  hash128 missing = {};    // key of the first whole page that is not in the cache
};

/// The block tables of all sequences over one pool of pages: who claims, shares and gives back
/// what. An entry below length / PageSize names a full page, which others may have too; the tail is
/// the sequence's own; the rest are reserved for it.
template <std::size_t PageSize, page_hash Hash>
class page_sequences {
 public:
  using sequence_id = std::uint32_t;

  explicit page_sequences(page_table_options const& options)
      : pool{options.pages, options.host_pages},
        row_pages_{options.max_length == 0
                     ? options.pages
                     : std::min(options.pages, pages_for(options.max_length))},
        rows_{std::make_unique_for_overwrite<page_id[]>(row_pages_ * (options.max_sequences + 1))},
        sequences_(options.max_sequences + 1) {}

  [[nodiscard]] static constexpr std::size_t pages_for(std::size_t positions) {
    return positions / PageSize + (positions % PageSize != 0 ? 1 : 0);
  }

  [[nodiscard]] std::size_t max_length() const { return row_pages_ * PageSize; }
  [[nodiscard]] page_id* row(sequence_id s) const { return rows_.get() + s * row_pages_; }
  [[nodiscard]] page_sequence& operator[](sequence_id s) { return sequences_[s]; }
  [[nodiscard]] page_sequence const& operator[](sequence_id s) const { return sequences_[s]; }

  /// The last one is for the table's own use.
  [[nodiscard]] sequence_id scratch() const {
    return static_cast<sequence_id>(sequences_.size() - 1);
  }

  /// Finds `tokens`; block table `s` then names the pages, those of the cache and of the host.
  [[nodiscard]] page_prefix find(sequence_id s, std::span<token_id const> tokens,
                                 std::uint64_t salt) const {
    page_prefix found;
    page_origin next{salt, 0};
    hash128 key{salt, 0};
    for (; tokens.size() >= PageSize; tokens = tokens.subspan(PageSize), ++next.depth) {
      auto const content = tokens.first(PageSize);
      key = Hash::chain(key, content);
      page_id const page = found.host == 0 ? pool.contents.find(key, next, content) : no_page;
      if (page != no_page) {
        found.idle += pool[page].refs == 0 ? 1 : 0;
        found.reserved += pool[page].owner != no_page ? 1 : 0;
        ++found.device;
        row(s)[next.depth] = page;
        next.parent = pool.contents.identity(page).serial;
        continue;
      }
      if (found.host == 0) { found.missing = key; }
      auto const h = pool.host.find(key, next, content);
      if (h == no_page || pool.host.page(h) != no_page) { break; }
      ++found.host;
      row(s)[next.depth] = h;
      next.parent = pool.host.identity(h).serial;
    }
    auto const [source, common] =
      pool.contents.find_start(next, tokens.first(std::min(tokens.size(), PageSize - 1)));
    found.source = source;
    found.common = common;
    return found;
  }

  /// Sequence `s` becomes one that has what was found; with `reuse` the page that has a part of it
  /// is taken over rather than copied, if nobody has it.
  void begin(sequence_id s, page_prefix const& found, std::uint64_t salt, bool reuse) {
    page_id* const pages = row(s);
    bool const idle_source = found.common != 0 && pool[found.source].refs == 0;
    if (idle_source) { pool.claim(found.source); }
    auto const owned = [&](page_id page) { return pool[page].owner != no_page; };
    for (std::size_t i = 0; i < found.device; ++i) {
      if (!owned(pages[i])) { share(s, i, pages[i], no_page); }
    }
    std::size_t const whole = found.device + found.host;
    for (auto i = found.device; i < whole; ++i) { pool.host.pin(pages[i]); }
    for (std::size_t i = 0; found.reserved != 0 && i < found.device; ++i) {
      if (owned(pages[i])) { share(s, i, pages[i], pool.take()); }
    }
    for (auto i = found.device; i < whole; ++i) {
      auto const h = pages[i];
      pages[i] = take_blank();
      pool.fetch(h, pages[i]);
    }
    for (auto i = whole; i-- > found.device;) { pool.host.unpin(pool[pages[i]].host); }
    if (idle_source && reuse) {
      pages[whole] = found.source;
      pool[found.source].refs = 1;
      pool.truncate(found.source, found.common);
    } else if (found.common != 0) {
      pages[whole] = copy_part(found.source, found.common);
      if (idle_source) { pool.release(found.source); }
    }
    std::size_t const length = whole * PageSize + found.common;
    sequences_[s] = {length, length, pages_for(length), salt, true};
  }

  /// Gives back what a sequence has.
  void end(sequence_id s) {
    page_sequence& q = sequences_[s];
    page_id const* const pages = row(s);
    for (auto i = pages_for(q.length); i-- > 0;) {
      if (--pool[pages[i]].refs == 0) { pool.release(pages[i]); }
    }
    page_id hint = pool.idle().front();
    for (auto i = q.pages; i-- > pages_for(q.length);) {
      pool[pages[i]].refs = 0;
      pool[pages[i]].owner = no_page;
      hint = pool.put_back(pages[i], hint);
    }
    q = {};
  }

  /// The i-th page of `s` is to be `page`, reserved and not yet written.
  void own(sequence_id s, std::size_t i, page_id page) {
    ++pool.changes;
    page_claim& claim = pool[page];
    claim.refs = 1;
    claim.owner = s;
    claim.place = static_cast<std::uint32_t>(i);
    row(s)[i] = page;
  }

  /// The block table gets `pages` entries, if it has fewer.
  void reserve(sequence_id s, std::size_t pages) {
    std::size_t& n = sequences_[s].pages;
    for (; n < pages; ++n) { own(s, n, pool.take()); }
  }

  /// The i-th page of `s` is to be `page`, which holds what it should. If a sequence has reserved
  /// that, it gets `other` instead.
  void share(sequence_id s, std::size_t i, page_id page, page_id other) {
    page_claim& claim = pool[page];
    if (claim.owner != no_page) {
      own(claim.owner, claim.place, other);
      claim.owner = no_page;
      claim.refs = 0;
    } else if (claim.refs == 0) {
      pool.claim(page);
    }
    ++claim.refs;
    row(s)[i] = page;
  }

  /// A page of one's own with the first tokens of page `from`.
  [[nodiscard]] page_id copy_part(page_id from, std::size_t tokens) {
    page_id const page = take_blank();
    pool.contents.start(page, pool.contents.identity(from).origin);
    pool.contents.extend(page, pool.contents.tokens(from).first(tokens));
    pool.copy(from, page, tokens);
    return page;
  }

  /// All that page `from` is and holds goes to `to`, which is blank.
  void relocate(page_id from, page_id to) {
    page_claim const& claim = pool[from];
    if (claim.owner != no_page) {
      row(claim.owner)[claim.place] = to;
    } else if (claim.refs != 0) {
      auto const i = pool.contents.identity(from).origin.depth;
      for (sequence_id s = 0; s < scratch(); ++s) {
        if (i < sequences_[s].pages && row(s)[i] == from) { row(s)[i] = to; }
      }
    }
    pool.relocate(from, to);
  }

  [[nodiscard]] page_origin origin(sequence_id s, std::size_t i) const {
    return {i == 0 ? sequences_[s].salt : pool.contents.identity(row(s)[i - 1]).serial,
            static_cast<std::uint32_t>(i)};
  }

  page_pool<PageSize, Hash> pool;

 private:
  [[nodiscard]] page_id take_blank() {
    page_id const page = pool.take();
    pool.evict(page);
    pool[page].refs = 1;
    return page;
  }

  std::size_t row_pages_;
  std::unique_ptr<page_id[]> rows_;
  std::vector<page_sequence> sequences_;
};

}  // namespace tpx::detail
