// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_host.hpp>
#include <tpx/generator/page_moves.hpp>
#include <tpx/generator/page_stats.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tpx::detail {

/// One page of the cache. It holds tokens if `filled` is not 0, and has a serial number if it is
/// full; its tokens are those of an open sequence if `refs` is not 0 and it has no owner.
struct page_entry {
  page_identity identity;
  std::uint64_t start = 0;  // hash of origin and first tokens, if there are enough of these
  std::uint64_t stamp = 0;  // when it was last used
  std::uint32_t filled = 0;
  std::uint32_t refs = 0;         // entries of block tables
  std::uint32_t host = no_page;   // the host page with the same contents
  std::uint32_t owner = no_page;  // the sequence that has reserved it ...
  std::uint32_t place = 0;        // ... and where in its block table
};

/// The pages' contents in both tiers, and which pages nobody has: the blank ones, and the idle ones
/// in the order of their stamps. A page is stamped when its last sequence leaves it, after the
/// pages that follow it, so the oldest is always a leaf and eviction costs O(1).
template <std::size_t PageSize, page_hash Hash>
class page_pool {
 public:
  /// A page is found by its first tokens if it has as many: fewer are not worth a copy.
  static constexpr std::size_t start_tokens = PageSize < 32 ? 1 : PageSize / 16;

  page_pool(std::size_t pages, std::size_t host_pages)
      : host{host_pages},
        moves{2 * pages, 2 * host_pages},
        entries_(pages),
        tokens_{pages},
        index_{pages},
        starts_{pages},
        blank_{pages},
        idle_{pages},
        gone_limit_{pages + host_pages} {
    for (page_id page = 0; page < pages; ++page) { blank_.push_back(page); }
    gone_.reserve(2 * gone_limit_);
  }

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] page_entry& at(page_id page) { return entries_[page]; }
  [[nodiscard]] page_entry const& at(page_id page) const { return entries_[page]; }
  [[nodiscard]] page_list const& idle() const { return idle_; }
  [[nodiscard]] page_list const& blank() const { return blank_; }
  [[nodiscard]] std::size_t available() const { return blank_.size() + idle_.size(); }
  [[nodiscard]] std::span<hash128 const> gone() const { return gone_; }
  void clear_gone() { gone_.clear(); }

  /// Another number whenever other pages are blank or idle than before.
  [[nodiscard]] std::uint64_t changes() const { return changes_; }

  [[nodiscard]] std::span<token_id const> tokens(page_id page) const {
    return tokens_.row(page, entries_[page].filled);
  }

  [[nodiscard]] page_id find(hash128 key, page_origin origin,
                             std::span<token_id const> tokens) const {
    auto const identity = [this](page_id page) -> page_identity const& {
      return entries_[page].identity;
    };
    return find_page(index_, tokens_, identity, key, origin, tokens);
  }

  /// The page that begins with most of `tokens`, and how many: of those with the same first
  /// start_tokens the newest few are looked at.
  [[nodiscard]] std::pair<page_id, std::size_t> find_start(page_origin origin,
                                                           std::span<token_id const> tokens) const {
    std::pair<page_id, std::size_t> best{no_page, 0};
    if (tokens.size() < start_tokens) { return best; }
    page_id page = starts_.first(start_hash(origin, tokens));
    for (int looks = 32; looks != 0 && page != no_page; --looks, page = starts_.next(page)) {
      if (entries_[page].identity.origin != origin) { continue; }
      auto const held = this->tokens(page);
      auto const n = std::min(held.size(), tokens.size());
      auto const common = static_cast<std::size_t>(
        std::mismatch(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(n), tokens.begin())
          .first -
        held.begin());
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

  /// Takes the page that is missed least, a blank one if there is one. It keeps what it holds until
  /// it is written, and the host tier gets that too. One must be available().
  [[nodiscard]] page_id take() {
    ++changes_;
    if (blank_.size() != 0) {
      page_id const page = blank_.front();
      blank_.erase(page);
      return page;
    }
    page_id const page = idle_.front();
    idle_.erase(page);
    if (entries_[page].identity.serial != 0) { store(page); }
    return page;
  }

  /// Takes an idle page for what it holds.
  void claim(page_id page) {
    ++changes_;
    idle_.erase(page);
  }

  /// Nobody has the page any more; it was used just now.
  void release(page_id page) {
    ++changes_;
    page_entry& e = entries_[page];
    if (e.filled == 0) {
      blank_.push_front(page);
    } else {
      e.stamp = ++clock_;
      idle_.push_back(page);
    }
  }

  /// Nobody has the page any more, which was not used: it goes back to where its stamp says, near
  /// `hint`, an idle page or the list's end. Returns the hint for an older page.
  page_id put_back(page_id page, page_id hint) {
    if (entries_[page].filled == 0) {
      blank_.push_front(page);
      return hint;
    }
    auto const stamp = entries_[page].stamp;
    auto const end = idle_.end();
    while (hint != end && entries_[hint].stamp < stamp) { hint = idle_.next(hint); }
    for (auto before = idle_.previous(hint); before != end && entries_[before].stamp > stamp;
         before = idle_.previous(hint)) {
      hint = before;
    }
    idle_.insert_before(hint, page);
    return page;
  }

  /// The page's tokens give way to others, or are garbage.
  void forget(page_id page) {
    page_entry& e = entries_[page];
    if (e.filled >= start_tokens) { starts_.erase(page, e.start); }
    if (e.identity.serial != 0) {
      index_.erase(page, e.identity.key.low);
      if (e.host != no_page) {
        host.set_page(e.host, no_page);
        e.host = no_page;
      } else {
        add_gone(e.identity.key);
      }
      e.identity.serial = 0;
    }
    e.filled = 0;
  }

  void evict(page_id page) {
    stats.evicted_pages += entries_[page].filled != 0 ? 1 : 0;
    forget(page);
  }

  /// A page without tokens begins at `origin`.
  void start(page_id page, page_origin origin) { entries_[page].identity.origin = origin; }

  /// `tokens` come after those that the page holds.
  void extend(page_id page, std::span<token_id const> tokens) {
    page_entry& e = entries_[page];
    auto const before = e.filled;
    tokens_.write(page, before, tokens);
    e.filled += static_cast<std::uint32_t>(tokens.size());
    if (before < start_tokens && e.filled >= start_tokens) {
      e.start = start_hash(e.identity.origin, this->tokens(page));
      starts_.insert(page, e.start);
    }
  }

  /// Keeps the first `tokens` of a page.
  void truncate(page_id page, std::size_t tokens) {
    page_entry& e = entries_[page];
    if (e.filled < PageSize && tokens >= start_tokens) {
      e.filled = static_cast<std::uint32_t>(tokens);
      return;
    }
    forget(page);
    extend(page, tokens_.row(page, tokens));
  }

  /// A page that has become full, and that no other equals, gets its identity.
  void name(page_id page, hash128 key) {
    page_entry& e = entries_[page];
    e.identity.key = key;
    e.host = host.find(key, e.identity.origin, tokens(page));
    if (e.host != no_page) {
      e.identity.serial = host.identity(e.host).serial;
      host.set_page(e.host, page);
    } else {
      e.identity.serial = ++serial_;
    }
    index_.insert(page, key.low);
  }

  void copy(page_id from, page_id to, std::size_t tokens) {
    ++stats.copied_pages;
    moves.copy(from, to, tokens);
  }

  /// Page `page`, which holds nothing, gets the contents of host page `h`.
  void fetch(std::uint32_t h, page_id page) {
    ++stats.fetched_pages;
    moves.move(host_move::way::fetch, page, h, PageSize);
    page_entry& e = entries_[page];
    start(page, host.identity(h).origin);
    extend(page, host.tokens(h));
    e.identity = host.identity(h);
    e.host = h;
    host.set_page(h, page);
    index_.insert(page, e.identity.key.low);
  }

  /// All that page `from` is and holds goes to `to`, which is blank; then `from` is blank.
  void relocate(page_id from, page_id to) {
    page_entry& e = entries_[from];
    blank_.erase(to);
    if (idle_.contains(from)) {
      idle_.insert_before(from, to);
      idle_.erase(from);
    }
    if (e.filled != 0) {
      copy(from, to, e.filled);
      tokens_.write(to, 0, tokens(from));
    }
    if (e.filled >= start_tokens) {
      starts_.erase(from, e.start);
      starts_.insert(to, e.start);
    }
    if (e.identity.serial != 0) {
      index_.erase(from, e.identity.key.low);
      index_.insert(to, e.identity.key.low);
      if (e.host != no_page) { host.set_page(e.host, to); }
    }
    entries_[to] = std::exchange(e, page_entry{});
    blank_.push_front(from);
    ++stats.moved_pages;
  }

  [[nodiscard]] page_info info(page_id page) const {
    page_entry const& e = entries_.at(page);
    page_state const state = blank_.contains(page)  ? page_state::blank
                             : idle_.contains(page) ? page_state::idle
                             : e.owner == no_page   ? page_state::used
                                                    : page_state::reserved;
    bool const full = e.identity.serial != 0;
    return {state,  e.filled,          e.filled != 0 ? e.identity.origin.depth : 0,
            e.refs, e.host != no_page, full ? e.identity.key : hash128{}};
  }

  host_tier<PageSize> host;
  page_moves moves;
  page_table_stats stats;

 private:
  [[nodiscard]] static std::uint64_t start_hash(page_origin origin,
                                                std::span<token_id const> tokens) {
    return Hash::chain({origin.parent, origin.depth}, tokens.first(start_tokens)).low;
  }

  void store(page_id page) {
    page_entry& e = entries_[page];
    if (e.host != no_page) { return host.use(e.host); }
    auto const h = host.oldest();
    if (h == no_page) { return; }
    if (auto const old = host.identity(h); old.serial != 0) {
      page_id const copy = host.page(h);
      if (copy != no_page) {
        entries_[copy].host = no_page;
      } else {
        add_gone(old.key);
      }
      host.drop(h);
    }
    host.put(h, e.identity, page, tokens(page));
    e.host = h;
    ++stats.stored_pages;
    moves.move(host_move::way::store, page, h, PageSize);
  }

  /// Of the keys that nobody asked for the newest stay.
  void add_gone(hash128 key) {
    if (gone_.size() == 2 * gone_limit_) {
      gone_.erase(gone_.begin(), gone_.begin() + static_cast<std::ptrdiff_t>(gone_limit_));
    }
    gone_.push_back(key);
  }

  std::vector<page_entry> entries_;
  page_tokens<PageSize> tokens_;
  page_chains index_;   // full pages by key
  page_chains starts_;  // pages by origin and first tokens
  page_list blank_;
  page_list idle_;
  std::vector<hash128> gone_;
  std::size_t gone_limit_;
  std::uint64_t serial_ = 0;
  std::uint64_t clock_ = 0;
  std::uint64_t changes_ = 0;
};

}  // namespace tpx::detail
