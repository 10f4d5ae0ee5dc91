// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/page_sequences.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

/// Checks all that must hold of pages and block tables between two calls, in O(pages log pages) and
/// the lengths of the block tables; throws with what is broken and where.
template <std::size_t PageSize, page_hash Hash>
class page_audit {
 public:
  using sequences = page_sequences<PageSize, Hash>;

  explicit page_audit(sequences const& all) : all_{all}, pool_{all.pool} {}

  void run() {
    for (page_id page = 0; page < pool_.size(); ++page) {
      if (pool_.at(page).identity.serial != 0) {
        serials_.emplace_back(pool_.at(page).identity.serial, page);
      }
    }
    std::sort(serials_.begin(), serials_.end());
    for (std::uint32_t s = 0; s < all_.scratch(); ++s) { check_sequence(s); }
    for (page_id page = 0; page < pool_.size(); ++page) { check_page(page); }
    check_order();
    for (std::uint32_t h = 0; h < pool_.host.size(); ++h) { check_host(h); }
  }

 private:
  static void require(bool holds, std::string_view what, std::string_view kind, std::size_t which) {
    if (!holds) {
      throw error{errc::invalid_argument, "page table: " + std::string{kind} + ' ' +
                                            std::to_string(which) + ": " + std::string{what}};
    }
  }

  void check_sequence(std::uint32_t s) {
    page_sequence const& q = all_[s];
    auto const that = [s](bool holds, std::string_view what) {
      require(holds, what, "sequence", s);
    };
    that(q.open || q.pages == 0, "is closed and has pages");
    that(q.length <= q.writable && q.writable <= std::max(q.pages * PageSize, q.length),
         "length, prepared end and room are not in this order");
    that(sequences::pages_for(q.length) <= q.pages, "has fewer pages than positions");
    for (std::size_t i = 0; i < q.pages; ++i) {
      page_id const page = all_.row(s)[i];
      that(page < pool_.size(), "names a page that does not exist");
      names_.push_back(page);
      page_entry const& e = pool_.at(page);
      if (i * PageSize >= q.length) {
        that(e.owner == s && e.place == i, "has not reserved a page after its tokens");
        that(i * PageSize >= q.writable || e.filled == 0, "writes a page that holds something");
        continue;
      }
      that(e.owner == no_page, "has tokens in a page that is reserved");
      that(e.identity.origin == all_.origin(s, i), "has a page that follows another one");
      std::size_t const tokens = std::min(q.length - i * PageSize, PageSize);
      that(e.filled == tokens || (e.filled == PageSize && q.writable == q.length),
           "has a page with fewer or more tokens than it should");
      that(e.filled == PageSize || e.refs == 1, "shares a page that it writes");
    }
  }

  void check_page(page_id page) {
    page_entry const& e = pool_.at(page);
    auto const that = [page](bool holds, std::string_view what) {
      require(holds, what, "page", page);
    };
    bool const blank = pool_.blank().contains(page);
    bool const idle = pool_.idle().contains(page);
    auto const named = std::count(names_.begin(), names_.end(), page);
    that(named == static_cast<std::ptrdiff_t>(e.refs),
         "is in more or fewer block tables than it counts");
    that(!blank || e.filled == 0, "is blank and holds tokens");
    that(!idle || e.filled != 0, "is idle and holds nothing");
    that(static_cast<int>(blank) + static_cast<int>(idle) + static_cast<int>(e.refs != 0) == 1,
         "is not exactly one of blank, idle and in a block table");
    that(e.owner == no_page || e.refs == 1, "is reserved and shared");
    that((e.filled == PageSize) == (e.identity.serial != 0),
         "is full and has no identity, or the reverse");
    that(e.identity.serial != 0 || e.host == no_page, "has no identity and is on the host");
    if (e.filled != 0 && e.filled >= page_pool<PageSize, Hash>::start_tokens) {
      that(pool_.has_start(page), "cannot be found by its first tokens");
    }
    if (e.identity.serial == 0) { return; }
    page_identity const& known = e.identity;
    that(pool_.find(known.key, known.origin, pool_.tokens(page)) == page,
         "cannot be found by its key, or another has the same contents");
    if (e.host != no_page) {
      that(pool_.host.page(e.host) == page, "is linked to a host page that is not linked to it");
    }
    page_id const parent = known.origin.depth == 0 ? no_page : find_serial(known.origin.parent);
    if (known.origin.depth == 0 || parent != no_page) {
      auto const before =
        parent == no_page ? hash128{known.origin.parent, 0} : pool_.at(parent).identity.key;
      that(known.key == Hash::chain(before, pool_.tokens(page)),
           "has a key that is not that of its tokens");
    }
  }

  /// The pages that nobody has are in the order of their stamps, so every page comes after those
  /// that follow it in a chain: eviction begins at the leaves.
  void check_order() const {
    std::uint64_t stamp = 0;
    auto const& idle = pool_.idle();
    std::size_t n = 0;
    for (auto page = idle.front(); page != idle.end(); page = idle.next(page), ++n) {
      page_entry const& e = pool_.at(page);
      require(e.stamp > stamp, "is idle and not in the order of last use", "page", page);
      stamp = e.stamp;
      page_id const parent =
        e.identity.origin.depth == 0 ? no_page : find_serial(e.identity.origin.parent);
      require(parent == no_page || !idle.contains(parent) || pool_.at(parent).stamp > stamp,
              "would be evicted after the page before it", "page", page);
    }
    require(n == idle.size(), "idle pages, but the list counts others", "table of", n);
  }

  void check_host(std::uint32_t h) const {
    auto const& host = pool_.host;
    auto const that = [h](bool holds, std::string_view what) {
      require(holds, what, "host page", h);
    };
    that(!host.pinned(h), "is pinned between two calls");
    page_identity const& known = host.identity(h);
    if (known.serial == 0) {
      return that(host.page(h) == no_page, "is blank and linked to a page");
    }
    that(host.find(known.key, known.origin, host.tokens(h)) == h,
         "cannot be found by its key, or another has the same contents");
    if (page_id const page = host.page(h); page != no_page) {
      page_entry const& e = pool_.at(page);
      that(e.host == h && e.identity.serial == known.serial,
           "is linked to a page that is not linked to it");
    } else {
      that(find_serial(known.serial) == no_page, "has contents that a page has, and no link to it");
    }
  }

  [[nodiscard]] page_id find_serial(std::uint64_t serial) const {
    auto const at =
      std::lower_bound(serials_.begin(), serials_.end(), std::pair{serial, page_id{0}});
    return at != serials_.end() && at->first == serial ? at->second : no_page;
  }

  sequences const& all_;
  page_pool<PageSize, Hash> const& pool_;
  std::vector<std::pair<std::uint64_t, page_id>> serials_;
  std::vector<page_id> names_;  // all entries of all block tables
};

}  // namespace tpx::detail
