// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/page_pool.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
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
        sequences_(options.max_sequences + 1),
        marks_(options.pages, 0) {}

  [[nodiscard]] static constexpr std::size_t pages_for(std::size_t positions) {
    return positions / PageSize + (positions % PageSize != 0 ? 1 : 0);
  }

  [[nodiscard]] std::size_t max_length() const { return row_pages_ * PageSize; }
  [[nodiscard]] page_id* row(sequence_id s) const { return rows_.get() + s * row_pages_; }
  [[nodiscard]] std::span<page_sequence const> all() const { return sequences_; }
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
      page_id const page = found.host == 0 ? pool.find(key, next, content) : no_page;
      if (page != no_page) {
        page_entry const& e = pool.at(page);
        found.idle += e.refs == 0 ? 1 : 0;
        found.reserved += e.owner != no_page ? 1 : 0;
        ++found.device;
        row(s)[next.depth] = page;
        next.parent = e.identity.serial;
        continue;
      }
      auto const h = pool.host.find(key, next, content);
      if (h == no_page || pool.host.page(h) != no_page) { break; }
      ++found.host;
      row(s)[next.depth] = h;
      next.parent = pool.host.identity(h).serial;
    }
    auto const [source, common] =
      pool.find_start(next, tokens.first(std::min(tokens.size(), PageSize)));
    found.source = source;
    found.common = common;
    return found;
  }

  /// Sequence `s` becomes one that has what was found; with `reuse` the page that has a part of it
  /// is taken over rather than copied, if nobody has it.
  void begin(sequence_id s, page_prefix const& found, std::uint64_t salt, bool reuse) {
    page_id* const pages = row(s);
    bool const idle_source = found.common != 0 && pool.at(found.source).refs == 0;
    if (idle_source) { pool.claim(found.source); }
    auto const owned = [&](page_id page) { return pool.at(page).owner != no_page; };
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
    for (auto i = whole; i-- > found.device;) { pool.host.unpin(pool.at(pages[i]).host); }
    if (idle_source && reuse) {
      pages[whole] = found.source;
      pool.at(found.source).refs = 1;
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
      if (--pool.at(pages[i]).refs == 0) { pool.release(pages[i]); }
    }
    page_id hint = pool.idle().front();
    for (auto i = q.pages; i-- > pages_for(q.length);) {
      pool.at(pages[i]).refs = 0;
      pool.at(pages[i]).owner = no_page;
      hint = pool.put_back(pages[i], hint);
    }
    q = {};
  }

  /// The i-th page of `s` is to be `page`, reserved and not yet written.
  void own(sequence_id s, std::size_t i, page_id page) {
    page_entry& e = pool.at(page);
    e.refs = 1;
    e.owner = s;
    e.place = static_cast<std::uint32_t>(i);
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
    page_entry& e = pool.at(page);
    if (e.owner != no_page) {
      own(e.owner, e.place, other);
      e.owner = no_page;
      e.refs = 0;
    } else if (e.refs == 0) {
      pool.claim(page);
    }
    ++e.refs;
    row(s)[i] = page;
  }

  /// A page of one's own with the first tokens of page `from`.
  [[nodiscard]] page_id copy_part(page_id from, std::size_t tokens) {
    page_id const page = take_blank();
    pool.at(page).refs = 1;
    pool.start(page, pool.at(from).identity.origin);
    pool.extend(page, pool.tokens(from).first(tokens));
    pool.copy(from, page, tokens);
    return page;
  }

  /// Whether the sequence's next token can be written: its tail ends there and is its own.
  [[nodiscard]] bool tail_is_own(sequence_id s) const {
    page_sequence const& q = sequences_[s];
    std::size_t const fill = q.length % PageSize;
    return fill == 0 || pool.at(row(s)[q.length / PageSize]).filled == fill;
  }

  /// Whether the tail is others' too.
  [[nodiscard]] bool tail_is_shared(sequence_id s) const {
    return !tail_is_own(s) && pool.at(row(s)[sequences_[s].length / PageSize]).refs > 1;
  }

  /// Makes the tail such that the next token can be written; takes a page if it is shared.
  void own_tail(sequence_id s) {
    if (tail_is_own(s)) { return; }
    page_id& tail = row(s)[sequences_[s].length / PageSize];
    std::size_t const fill = sequences_[s].length % PageSize;
    if (pool.at(tail).refs == 1) { return pool.truncate(tail, fill); }
    --pool.at(tail).refs;
    tail = copy_part(tail, fill);
  }

  /// Positions are about to be written; there is room.
  void prepare(sequence_id s, std::size_t tokens) {
    page_sequence& q = sequences_[s];
    q.writable = q.length + tokens;
    for (auto i = pages_for(q.length); i < pages_for(q.writable); ++i) { pool.evict(row(s)[i]); }
  }

  /// Positions that were prepared hold these.
  void append(sequence_id s, std::span<token_id const> tokens) {
    std::size_t& length = sequences_[s].length;
    while (!tokens.empty()) {
      std::size_t const i = length / PageSize;
      std::size_t const fill = length % PageSize;
      page_id const page = row(s)[i];
      if (fill == 0) {
        pool.at(page).owner = no_page;
        pool.start(page, origin(s, i));
      }
      auto const part = tokens.first(std::min(tokens.size(), PageSize - fill));
      pool.extend(page, part);
      tokens = tokens.subspan(part.size());
      length += part.size();
      if (length % PageSize == 0) { complete(s, i); }
    }
  }

  /// Cuts a sequence off. Pages after the end that are its own are reserved for it, the others are
  /// not its any more.
  void drop(sequence_id s, std::size_t length) {
    page_sequence& q = sequences_[s];
    std::size_t kept = pages_for(length);
    for (auto i = kept; i < q.pages; ++i) {
      page_id const page = row(s)[i];
      page_entry& e = pool.at(page);
      if (e.refs > 1) {
        --e.refs;
        continue;
      }
      if (e.owner == no_page) { pool.forget(page); }
      own(s, kept++, page);
    }
    q.length = length;
    q.writable = length;
    q.pages = kept;
  }

  /// The i-th page of `s` has become full: it gets its identity, or gives way to a page that holds
  /// the same.
  void complete(sequence_id s, std::size_t i) {
    page_id const page = row(s)[i];
    hash128 const before =
      i == 0 ? hash128{sequences_[s].salt, 0} : pool.at(row(s)[i - 1]).identity.key;
    auto const key = Hash::chain(before, pool.tokens(page));
    page_id const same = pool.find(key, pool.at(page).identity.origin, pool.tokens(page));
    if (same == no_page) { return pool.name(page, key); }
    ++pool.stats.merged_pages;
    pool.forget(page);
    pool.at(page).refs = 0;
    bool const swapped = pool.at(same).owner != no_page;
    share(s, i, same, page);
    if (!swapped) { pool.release(page); }
  }

  [[nodiscard]] page_origin origin(sequence_id s, std::size_t i) const {
    return {i == 0 ? sequences_[s].salt : pool.at(row(s)[i - 1]).identity.serial,
            static_cast<std::uint32_t>(i)};
  }

  /// All that page `from` is and holds goes to `to`, which is blank.
  void relocate(page_id from, page_id to) {
    page_entry const& e = pool.at(from);
    if (e.owner != no_page) {
      row(e.owner)[e.place] = to;
    } else if (e.refs != 0) {
      auto const i = e.identity.origin.depth;
      for (sequence_id s = 0; s < scratch(); ++s) {
        if (i < sequences_[s].pages && row(s)[i] == from) { row(s)[i] = to; }
      }
    }
    pool.relocate(from, to);
  }

  /// Every page that is not blank, once: those of open sequences, then the idle ones, the latest
  /// first. `visit(page, follows)`: whether it comes right after the page visited before.
  template <class Visit>
  void visit_chains(Visit&& visit) {
    ++mark_;
    for (sequence_id s = 0; s < scratch(); ++s) {
      bool follows = false;
      for (page_id const page : std::span{row(s), sequences_[s].pages}) {
        if (marks_[page] == mark_) { continue; }
        marks_[page] = mark_;
        visit(page, follows);
        follows = true;
      }
    }
    page_origin next{};
    for (auto page = pool.idle().previous(pool.idle().end()); page != pool.idle().end();
         page = pool.idle().previous(page)) {
      page_identity const& known = pool.at(page).identity;
      visit(page, next.depth != 0 && known.origin == next);
      next = {known.serial, known.serial == 0 ? 0 : known.origin.depth + 1};
    }
  }

  [[nodiscard]] page_table_stats stats() {
    page_table_stats now = pool.stats;
    now.blank = pool.blank().size();
    now.idle = pool.idle().size();
    std::size_t pairs = 0;
    std::size_t broken = 0;
    page_id before = no_page;
    visit_chains([&](page_id page, bool follows) {
      page_state const state = pool.info(page).state;
      now.reserved += state == page_state::reserved ? 1 : 0;
      now.used += state == page_state::used ? 1 : 0;
      pairs += follows ? 1 : 0;
      broken += follows && page != before + 1 ? 1 : 0;
      before = page;
    });
    now.fragmentation = pairs == 0 ? 0 : static_cast<double>(broken) / static_cast<double>(pairs);
    return now;
  }

  page_pool<PageSize, Hash> pool;

 private:
  [[nodiscard]] page_id take_blank() {
    page_id const page = pool.take();
    pool.evict(page);
    pool.at(page).refs = 1;
    return page;
  }

  std::size_t row_pages_;
  std::unique_ptr<page_id[]> rows_;
  std::vector<page_sequence> sequences_;
  std::vector<std::uint64_t> marks_;  // of visit_chains
  std::uint64_t mark_ = 0;
};

}  // namespace tpx::detail
