// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_contents.hpp>
#include <tpx/generator/page_host.hpp>
#include <tpx/generator/page_moves.hpp>
#include <tpx/generator/page_stats.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tpx::detail {

/// Who has a page. It is an open sequence's, to read, if `refs` is not 0 and it has no owner.
struct page_claim {
  std::uint64_t stamp = 0;        // when it was last used
  std::uint32_t refs = 0;         // entries of block tables
  std::uint32_t host = no_page;   // the host page with the same contents
  std::uint32_t owner = no_page;  // the sequence that has reserved it ...
  std::uint32_t place = 0;        // ... and where in its block table
};

/// The pages of both tiers, and which of them nobody has: the blank ones, and the idle ones in the
/// order of their stamps. A page is stamped when its last sequence leaves it, after the pages that
/// follow it: so the oldest is always a leaf, and to evict it costs O(1).
template <std::size_t PageSize, page_hash Hash>
class page_pool {
 public:
  page_pool(std::size_t pages, std::size_t host_pages)
      : contents{pages},
        host{host_pages},
        moves{2 * pages, 2 * host_pages},
        claims_(pages),
        blank_{pages},
        idle_{pages},
        gone_limit_{pages + host_pages} {
    for (page_id page = 0; page < pages; ++page) { blank_.push_back(page); }
    gone_.reserve(2 * gone_limit_);
  }

  [[nodiscard]] page_claim& operator[](page_id page) { return claims_[page]; }
  [[nodiscard]] page_claim const& operator[](page_id page) const { return claims_[page]; }
  [[nodiscard]] page_list const& idle() const { return idle_; }
  [[nodiscard]] page_list const& blank() const { return blank_; }
  [[nodiscard]] std::size_t available() const { return blank_.size() + idle_.size(); }
  [[nodiscard]] std::span<hash128 const> gone() const { return gone_; }
  void clear_gone() { gone_.clear(); }

  /// Takes the page that is missed least, a blank one if there is one. It keeps what it holds until
  /// it is written, and the host tier gets that too. One must be available().
  [[nodiscard]] page_id take() {
    ++changes;
    bool const any_blank = blank_.size() != 0;
    page_list& list = any_blank ? blank_ : idle_;
    page_id const page = list.front();
    list.erase(page);
    if (!any_blank && host.size() != 0 && contents.named(page)) { store(page); }
    return page;
  }

  /// Takes an idle page for what it holds.
  void claim(page_id page) {
    ++changes;
    idle_.erase(page);
  }

  /// Nobody has the page any more; it was used just now.
  void release(page_id page) {
    ++changes;
    if (contents.filled(page) == 0) { return blank_.push_front(page); }
    claims_[page].stamp = ++clock_;
    idle_.push_back(page);
  }

  /// Nobody has the page any more, which was not used: it goes back to where its stamp says, near
  /// `hint`, an idle page or the list's end. Returns the hint for an older page.
  page_id put_back(page_id page, page_id hint) {
    ++changes;
    if (contents.filled(page) == 0) {
      blank_.push_front(page);
      return hint;
    }
    auto const stamp = claims_[page].stamp;
    auto const end = idle_.end();
    while (hint != end && claims_[hint].stamp < stamp) { hint = idle_.next(hint); }
    for (auto before = idle_.previous(hint); before != end && claims_[before].stamp > stamp;
         before = idle_.previous(hint)) {
      hint = before;
    }
    idle_.insert_before(hint, page);
    return page;
  }

  /// Keeps the first `tokens` of what a page holds. A full one's key may be gone with that.
  void truncate(page_id page, std::size_t tokens) {
    if (contents.named(page)) {
      std::uint32_t& h = claims_[page].host;
      if (h == no_page) {
        add_gone(contents.identity(page).key);
      } else {
        host.set_page(std::exchange(h, no_page), no_page);
      }
    }
    contents.truncate(page, tokens);
  }

  /// What a page holds gives way to something else.
  void evict(page_id page) {
    if (contents.filled(page) == 0) { return; }
    ++stats.evicted_pages;
    truncate(page, 0);
  }

  /// A page that is full, and that no other equals, gets its name.
  void name(page_id page, hash128 key) {
    auto const h = host.find(key, contents.identity(page).origin, contents.tokens(page));
    if (h != no_page) { host.set_page(h, page); }
    claims_[page].host = h;
    contents.name(page, key, h != no_page ? host.identity(h).serial : ++serial_);
  }

  void copy(page_id from, page_id to, std::size_t tokens) {
    ++stats.copied_pages;
    moves.copy(from, to, tokens);
  }

  /// Page `page`, which holds nothing, gets the contents of host page `h`.
  void fetch(std::uint32_t h, page_id page) {
    ++stats.fetched_pages;
    moves.move(host_move::way::fetch, page, h, PageSize);
    page_identity const& known = host.identity(h);
    contents.start(page, known.origin);
    contents.extend(page, host.tokens(h));
    contents.name(page, known.key, known.serial);
    claims_[page].host = h;
    host.set_page(h, page);
  }

  /// All that page `from` is and holds goes to `to`, which is blank; then `from` is blank.
  void relocate(page_id from, page_id to) {
    ++stats.moved_pages;
    blank_.erase(to);
    if (idle_.contains(from)) {
      idle_.insert_before(from, to);
      idle_.erase(from);
    }
    if (contents.filled(from) != 0) { copy(from, to, contents.filled(from)); }
    contents.relocate(from, to);
    claims_[to] = std::exchange(claims_[from], page_claim{});
    if (claims_[to].host != no_page) { host.set_page(claims_[to].host, to); }
    blank_.push_front(from);
  }

  [[nodiscard]] page_info info(page_id page) const {
    page_identity const& known = contents.identity(page);
    page_claim const& claim = claims_[page];
    std::size_t const tokens = contents.filled(page);
    page_state const state = claim.owner != no_page ? page_state::reserved
                             : claim.refs != 0      ? page_state::used
                             : tokens != 0          ? page_state::idle
                                                    : page_state::blank;
    return {state,
            tokens,
            tokens != 0 ? known.origin.depth : 0,
            claim.refs,
            claim.host != no_page,
            known.serial != 0 ? known.key : hash128{}};
  }

  /// The stats, with how many pages are in which state.
  [[nodiscard]] page_table_stats count() const {
    page_table_stats now = stats;
    for (page_id page = 0; page < contents.size(); ++page) {
      page_state const state = info(page).state;
      now.blank += state == page_state::blank ? 1 : 0;
      now.idle += state == page_state::idle ? 1 : 0;
      now.used += state == page_state::used ? 1 : 0;
      now.reserved += state == page_state::reserved ? 1 : 0;
    }
    return now;
  }

  page_contents<PageSize, Hash> contents;
  host_tier<PageSize> host;
  page_moves moves;
  page_table_stats stats;
  std::uint64_t changes = 0;  // another number whenever pages get into other hands

 private:
  void store(page_id page) {
    page_claim& claim = claims_[page];
    if (claim.host != no_page) { return host.use(claim.host); }
    auto const h = host.oldest();
    if (h == no_page) { return; }
    if (host.identity(h).serial != 0) {
      if (page_id const same = host.page(h); same != no_page) {
        claims_[same].host = no_page;
      } else {
        add_gone(host.identity(h).key);
      }
      host.drop(h);
    }
    host.put(h, contents.identity(page), page, contents.tokens(page));
    claim.host = h;
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

  std::vector<page_claim> claims_;
  page_list blank_;
  page_list idle_;
  std::vector<hash128> gone_;
  std::size_t gone_limit_;
  std::uint64_t serial_ = 0;
  std::uint64_t clock_ = 0;
};

}  // namespace tpx::detail
