// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_sequences.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tpx::detail {

/// What writes to sequences: their tails, the pages that they complete, and what is cut off.
template <std::size_t PageSize, page_hash Hash>
class page_writer : public page_sequences<PageSize, Hash> {
  using base = page_sequences<PageSize, Hash>;

 public:
  using base::base;
  using base::copy_part;
  using base::origin;
  using base::own;
  using base::pages_for;
  using base::pool;
  using base::row;
  using base::share;
  using typename base::sequence_id;

  /// Whether the sequence's next token can be written: its tail ends there and is its own.
  [[nodiscard]] bool tail_is_own(sequence_id s) const {
    page_sequence const& q = (*this)[s];
    std::size_t const fill = q.length % PageSize;
    return fill == 0 || pool.contents.filled(row(s)[q.length / PageSize]) == fill;
  }

  /// Whether the tail is others' too.
  [[nodiscard]] bool tail_is_shared(sequence_id s) const {
    return !tail_is_own(s) && pool[row(s)[(*this)[s].length / PageSize]].refs > 1;
  }

  /// Makes the tail such that the next token can be written; takes a page if it is shared.
  void own_tail(sequence_id s) {
    if (tail_is_own(s)) { return; }
    page_id& tail = row(s)[(*this)[s].length / PageSize];
    std::size_t const fill = (*this)[s].length % PageSize;
    if (pool[tail].refs == 1) { return pool.truncate(tail, fill); }
    --pool[tail].refs;
    tail = copy_part(tail, fill);
  }

  /// Positions are about to be written; there is room.
  void prepare(sequence_id s, std::size_t tokens) {
    page_sequence& q = (*this)[s];
    q.writable = q.length + tokens;
    for (auto i = pages_for(q.length); i < pages_for(q.writable); ++i) { pool.evict(row(s)[i]); }
  }

  /// Positions that were prepared hold these.
  void append(sequence_id s, std::span<token_id const> tokens) {
    std::size_t& length = (*this)[s].length;
    while (!tokens.empty()) {
      std::size_t const i = length / PageSize;
      std::size_t const fill = length % PageSize;
      page_id const page = row(s)[i];
      if (fill == 0) {
        pool[page].owner = no_page;
        pool.contents.start(page, origin(s, i));
      }
      auto const part = tokens.first(std::min(tokens.size(), PageSize - fill));
      pool.contents.extend(page, part);
      tokens = tokens.subspan(part.size());
      length += part.size();
      if (length % PageSize == 0) { complete(s, i); }
    }
  }

  /// Cuts a sequence off. Pages after the end that are its own are reserved for it, the others are
  /// not its any more.
  void drop(sequence_id s, std::size_t length) {
    page_sequence& q = (*this)[s];
    std::size_t kept = pages_for(length);
    for (auto i = kept; i < q.pages; ++i) {
      page_id const page = row(s)[i];
      if (pool[page].refs > 1) {
        --pool[page].refs;
        continue;
      }
      if (pool[page].owner == no_page) { pool.truncate(page, 0); }
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
      i == 0 ? hash128{(*this)[s].salt, 0} : pool.contents.identity(row(s)[i - 1]).key;
    auto const key = Hash::chain(before, pool.contents.tokens(page));
    page_id const same =
      pool.contents.find(key, pool.contents.identity(page).origin, pool.contents.tokens(page));
    if (same == no_page) { return pool.name(page, key); }
    ++pool.stats.merged_pages;
    pool.truncate(page, 0);
    pool[page].refs = 0;
    bool const swapped = pool[same].owner != no_page;
    share(s, i, same, page);
    if (!swapped) { pool.release(page); }
  }
};

}  // namespace tpx::detail
