// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/page_hash.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx::detail {

/// What the pages of a draft model's cache hold. They are the target's, but not every sequence that
/// has them is drafted for, full ones are merged, and a copy or move may have failed. So a full
/// page has the hash of its tokens and all before them, and others the stamp of who wrote them
/// last.
template <std::size_t PageSize>
class draft_pages {
 public:
  /// A sequence: how many full pages it has that hold its tokens, and their hash.
  struct reader {
    std::uint64_t stamp = 0;  // of its last write
    std::size_t full = 0;
    hash128 key = {};
  };

  draft_pages(std::size_t pages, std::size_t host_pages) : pages_(pages), host_(host_pages) {}

  /// How many of the first `known` tokens, which this sequence has written or found, the pages hold
  /// for certain.
  [[nodiscard]] std::size_t held(reader& r, std::span<token_id const> tokens,
                                 std::span<page_id const> table, std::size_t known) {
    for (; (r.full + 1) * PageSize <= known; ++r.full) {
      auto& here = pages_[table[r.full]];
      auto const key = MultiplyMix::chain(r.key, tokens.subspan(r.full * PageSize, PageSize));
      if (written_by(r, here)) { here = {key, 0}; }
      if (here.stamp != 0 || here.key != key) { return r.full * PageSize; }
      r.key = key;
    }
    auto const whole = r.full * PageSize;
    return known > whole && written_by(r, pages_[table[r.full]]) ? known : std::min(known, whole);
  }

  /// The positions from `begin` to `end` are about to be written; those before are held.
  void write(reader& r, std::span<page_id const> table, std::size_t begin, std::size_t end) {
    rewind(r, begin);
    r.stamp = ++stamps_;
    for (auto i = begin / PageSize; i * PageSize < end; ++i) { pages_[table[i]] = {{}, r.stamp}; }
  }

  /// Tokens from `length` on are others now.
  void rewind(reader& r, std::size_t length) {
    if (length < r.full * PageSize) { r = {.stamp = r.stamp}; }
  }

  void copy(page_copy const& c) {
    pages_[c.to] = pages_[c.from].stamp != 0 || c.tokens == PageSize ? pages_[c.from] : contents{};
  }
  void store(page_id from, std::uint32_t host) { host_[host] = pages_[from]; }
  void fetch(std::uint32_t host, page_id to) { pages_[to] = host_[host]; }
  void forget(page_id which) { pages_[which] = {}; }
  void forget_host(std::uint32_t host) { host_[host] = {}; }

 private:
  struct contents {
    hash128 key = {};
    std::uint64_t stamp = 0;  // 0: it is full, or holds nothing
  };

  [[nodiscard]] static bool written_by(reader const& r, contents const& page) {
    return page.stamp != 0 && page.stamp == r.stamp;
  }

  std::vector<contents> pages_;
  std::vector<contents> host_;
  std::uint64_t stamps_ = 0;
};

}  // namespace tpx::detail
