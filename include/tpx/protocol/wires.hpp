// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <cstddef>
#include <cstdint>

namespace tpx {

/// A rank's window: the memory through which others reach it.
///
/// Per channel: flag lines by kind and peer, then this rank's own message counts, then two slots
/// for each peer. Offsets follow from the largest size alone, never from a payload.
struct window_layout {
  int ranks;
  int channels;
  std::size_t slot_bytes;  // a multiple of cache_line

  static constexpr int slots = 2;  // messages in flight from one rank to another

  /// Raised by `peer`, waited for by the window's rank.
  enum kind { sent, freed, sent_all, freed_all, arrived, kinds };

  struct alignas(cache_line) line {
    std::uint64_t flag;              // messages so far
    std::uint64_t signature[slots];  // call_signature of the message in each slot
  };

  /// Messages so far, by lane and peer; this rank alone reads and writes them.
  struct alignas(cache_line) counts {
    std::uint64_t out[2][max_ranks];
    std::uint64_t in[2][max_ranks];
    std::uint64_t barriers;
  };

  [[nodiscard]] TPX_HD constexpr std::size_t line_offset(int channel, kind k, int peer) const {
    return ((static_cast<std::size_t>(channel) * kinds + k) * static_cast<std::size_t>(ranks) +
            static_cast<std::size_t>(peer)) *
           sizeof(line);
  }
  [[nodiscard]] TPX_HD constexpr std::size_t counts_offset(int channel) const {
    return line_offset(channels, sent, 0) + static_cast<std::size_t>(channel) * sizeof(counts);
  }
  [[nodiscard]] TPX_HD constexpr std::size_t slot_offset(int channel, int peer, int slot) const {
    return counts_offset(channels) +
           ((static_cast<std::size_t>(channel) * static_cast<std::size_t>(ranks) +
             static_cast<std::size_t>(peer)) *
              slots +
            static_cast<std::size_t>(slot)) *
             slot_bytes;
  }
  [[nodiscard]] TPX_HD constexpr std::size_t bytes() const { return slot_offset(channels, 0, 0); }
};

/// What one rank needs to reach the others, as this rank addresses it. Passed by value.
struct wires {
  std::byte* window[max_ranks];
  window_layout layout;
  int rank;
  std::uint64_t signature;  // of the call that is being carried out

  [[nodiscard]] TPX_HD int size() const { return layout.ranks; }
};

}  // namespace tpx
