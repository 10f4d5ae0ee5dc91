// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/page_hash.hpp>

#include <cstddef>
#include <cstdint>

namespace tpx {

struct page_table_options {
  std::size_t pages = 0;            // of the model's cache
  std::size_t host_pages = 0;       // of its host tier
  std::size_t max_sequences = 256;  // open at a time
  std::size_t max_length = 0;  // positions of the longest sequence; 0: as many as the cache has
};

/// What a page is, at the moment.
enum class page_state : std::uint8_t {
  blank,     ///< holds nothing
  idle,      ///< holds tokens that no open sequence has: cache
  used,      ///< holds tokens of open sequences
  reserved,  ///< an open sequence will write it; until then it holds what it held
};

struct page_info {
  page_state state = page_state::blank;
  std::size_t tokens = 0;  // that it holds
  std::size_t depth = 0;   // pages before it in its sequences
  std::size_t refs = 0;    // entries of block tables that name it
  bool on_host = false;    // the host tier has it too
  hash128 key = {};        // of a full page
};

/// Counts since the start, but for the last group.
struct page_table_stats {
  std::uint64_t sequences = 0;      // opened
  std::uint64_t refused = 0;        // open() and grow() for want of pages
  std::uint64_t tokens = 0;         // of the sequences when they were opened
  std::uint64_t cached_tokens = 0;  // of these, tokens that were there
  std::uint64_t hit_pages = 0;      // whole pages found in the cache
  std::uint64_t fetched_pages = 0;  // whole pages found in the host tier
  std::uint64_t partial_hits = 0;   // pages of which a part was taken over
  std::uint64_t merged_pages = 0;   // completed pages that were there already
  std::uint64_t evicted_pages = 0;  // pages whose tokens gave way to others
  std::uint64_t stored_pages = 0;   // to the host tier
  std::uint64_t copied_pages = 0;   // copies asked of the model, defragmentation's too
  std::uint64_t moved_pages = 0;    // by defragmentation
  std::uint64_t plans = 0;          // that it made

  std::size_t blank = 0;  // pages by state
  std::size_t idle = 0;
  std::size_t used = 0;
  std::size_t reserved = 0;
  double fragmentation = 0;  // share of pages that do not lie right after the one before them
};

}  // namespace tpx
