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
    for (page_id page = 0; page < pool_.contents.size(); ++page) {
      if (pool_.contents.identity(page).serial != 0) {
        serials_.emplace_back(pool_.contents.identity(page).serial, page);
      }
    }
    std::sort(serials_.begin(), serials_.end());
    for (std::uint32_t s = 0; s < all_.scratch(); ++s) { check_sequence(s); }
    std::sort(names_.begin(), names_.end());
    for (page_id page = 0; page < pool_.contents.size(); ++page) { check_page(page); }
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
      that(page < pool_.contents.size(), "names a page that does not exist");
      names_.push_back(page);
      page_claim const& claim = pool_[page];
      std::size_t const filled = pool_.contents.filled(page);
      if (i * PageSize >= q.length) {
        that(claim.owner == s && claim.place == i, "has not reserved a page after its tokens");
        that(i * PageSize >= q.writable || filled == 0, "writes a page that holds something");
        continue;
      }
      that(claim.owner == no_page, "has tokens in a page that is reserved");
      that(pool_.contents.identity(page).origin == all_.origin(s, i),
           "has a page that follows another one");
      std::size_t const tokens = std::min(q.length - i * PageSize, PageSize);
      that(filled == tokens || (filled == PageSize && q.writable == q.length),
           "has a page with fewer or more tokens than it should");
      that(filled == PageSize || claim.refs == 1, "shares a page that it writes");
    }
  }

  void check_page(page_id page) const {
    page_claim const& claim = pool_[page];
    page_identity const& known = pool_.contents.identity(page);
    std::size_t const filled = pool_.contents.filled(page);
    auto const that = [page](bool holds, std::string_view what) {
      require(holds, what, "page", page);
    };
    bool const blank = pool_.blank().contains(page);
    bool const idle = pool_.idle().contains(page);
    auto const [first, last] = std::equal_range(names_.begin(), names_.end(), page);
    that(last - first == static_cast<std::ptrdiff_t>(claim.refs),
         "is in more or fewer block tables than it counts");
    that(!blank || filled == 0, "is blank and holds tokens");
    that(!idle || filled != 0, "is idle and holds nothing");
    that(static_cast<int>(blank) + static_cast<int>(idle) + static_cast<int>(claim.refs != 0) == 1,
         "is not exactly one of blank, idle and in a block table");
    that(claim.owner == no_page || claim.refs == 1, "is reserved and shared");
    that((filled == PageSize) == (known.serial != 0),
         "is full and has no identity, or the reverse");
    that(known.serial != 0 || claim.host == no_page, "has no identity and is on the host");
    if (filled != 0 && filled >= page_contents<PageSize, Hash>::start_tokens) {
      that(pool_.contents.has_start(page), "cannot be found by its first tokens");
    }
    if (known.serial == 0) { return; }
    that(pool_.contents.find(known.key, known.origin, pool_.contents.tokens(page)) == page,
         "cannot be found by its key, or another has the same contents");
    if (claim.host != no_page) {
      that(pool_.host.page(claim.host) == page,
           "is linked to a host page that is not linked to it");
    }
    page_id const parent = known.origin.depth == 0 ? no_page : find_serial(known.origin.parent);
    if (known.origin.depth == 0 || parent != no_page) {
      auto const before =
        parent == no_page ? hash128{known.origin.parent, 0} : pool_.contents.identity(parent).key;
      that(known.key == Hash::chain(before, pool_.contents.tokens(page)),
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
      require(pool_[page].stamp > stamp, "is idle and not in the order of last use", "page", page);
      stamp = pool_[page].stamp;
      page_origin const origin = pool_.contents.identity(page).origin;
      page_id const parent = origin.depth == 0 ? no_page : find_serial(origin.parent);
      require(parent == no_page || !idle.contains(parent) || pool_[parent].stamp > stamp,
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
      that(pool_[page].host == h && pool_.contents.identity(page).serial == known.serial,
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
  std::vector<std::pair<std::uint64_t, page_id>> serials_;  // of named pages, in order
  std::vector<page_id> names_;  // all entries of all block tables, in order
};

}  // namespace tpx::detail
