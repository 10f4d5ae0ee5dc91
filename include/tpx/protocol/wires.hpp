// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/cell.hpp>
#include <tpx/topology/topology.hpp>

#include <cstddef>
#include <cstdint>

namespace tpx {

/// A rank's window: the memory through which others reach it.
///
/// Per channel: flag lines by kind and peer, then this rank's own message counts, then two slots
/// for each peer. For turns at the cells (protocol/turn.hpp): what others announce, this rank's own
/// records, then the areas of cells, then a byte for each cell, then the marks of streamed turns
/// (protocol/progress.hpp). Offsets follow from the largest size alone, never from a payload.
struct window_layout {
  int ranks;
  int channels;
  std::size_t slot_bytes;      // a multiple of cache_line
  std::size_t area_cells = 0;  // a multiple of cache_line

  static constexpr int slots = 2;  // messages in flight from one rank to another
  static constexpr int max_channels = 1024;
  static constexpr int areas = 4;          // of cells; a turn goes through them round by round
  static constexpr int max_streams = 128;  // channels that do one step of a streamed turn

  /// Raised by `peer`, waited for by the window's rank.
  enum kind { sent, freed, sent_all, freed_all, arrived, kinds };

  /// What a channel does in a round of a streamed turn.
  enum step { given, taken, collected, steps };

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

  /// What another rank says of the turns it began: of turn t in place t % 2, its number above, its
  /// call's signature below.
  struct alignas(cache_line) announcement {
    cell begun[2];
  };

  /// A rank's record of its turns; it alone reads and writes it. Its channels read it while one of
  /// them, the conductor, writes down the turn that they are in.
  struct turns {
    struct alignas(cache_line) {
      cell newest;  // the newest turn: protocol/turn.hpp
    } head;
    std::uint64_t joined[max_channels];  // newest turn of each channel
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
  [[nodiscard]] TPX_HD constexpr std::size_t announcement_offset(int peer) const {
    return slot_offset(channels, 0, 0) + static_cast<std::size_t>(peer) * sizeof(announcement);
  }
  [[nodiscard]] TPX_HD constexpr std::size_t turns_offset() const {
    return announcement_offset(ranks);
  }
  [[nodiscard]] TPX_HD constexpr std::size_t cells_offset(int area) const {
    return turns_offset() + (sizeof(turns) + cache_line - 1) / cache_line * cache_line +
           static_cast<std::size_t>(area) * area_cells * sizeof(cell);
  }
  /// A byte for each cell, see cells::masked.
  [[nodiscard]] TPX_HD constexpr std::size_t asides_offset(int area) const {
    return cells_offset(areas) + static_cast<std::size_t>(area) * area_cells;
  }
  [[nodiscard]] TPX_HD constexpr std::size_t marks_offset() const { return asides_offset(areas); }
  [[nodiscard]] TPX_HD constexpr std::size_t mark_place(int place, step s, int peer) const {
    return (static_cast<std::size_t>(place) * steps + s) * static_cast<std::size_t>(ranks) +
           static_cast<std::size_t>(peer);
  }
  [[nodiscard]] TPX_HD constexpr std::size_t bytes() const {
    return area_cells == 0
             ? slot_offset(channels, 0, 0)
             : marks_offset() + mark_place(max_streams, given, 0) * sizeof(std::uint64_t);
  }
};

/// Where a window's parts for turns at the cells begin: from its layout, once, so that a GPU need
/// not multiply.
struct cell_offsets {
  std::uint32_t announcements = 0;
  std::uint32_t turns = 0;
  std::uint32_t cells = 0;
  std::uint32_t area = 0;    // bytes of an area's cells
  std::uint32_t asides = 0;  // a byte a cell, area by area
  std::uint32_t marks = 0;

  cell_offsets() = default;
  explicit constexpr cell_offsets(window_layout const& l)
      : announcements{static_cast<std::uint32_t>(l.announcement_offset(0))},
        turns{static_cast<std::uint32_t>(l.turns_offset())},
        cells{static_cast<std::uint32_t>(l.cells_offset(0))},
        area{static_cast<std::uint32_t>(l.area_cells * sizeof(cell))},
        asides{static_cast<std::uint32_t>(l.asides_offset(0))},
        marks{static_cast<std::uint32_t>(l.marks_offset())} {}
};

/// What one rank needs to reach the others, as this rank addresses it. Passed by value.
struct wires {
  std::byte* window[max_ranks];
  window_layout layout;
  cell_offsets at;
  window_layout::turns* turns = nullptr;  // this rank's, if it lies nearer than in its window
  int rank;
  std::uint64_t signature;  // of the call that is being carried out

  [[nodiscard]] TPX_HD int size() const { return layout.ranks; }
};

/// All ranks but one.
[[nodiscard]] TPX_HD inline rank_set all_but(wires const& w, int rank) {
  return ((rank_set{1} << w.size()) - 1) & ~(rank_set{1} << rank);
}
/// All but this one.
[[nodiscard]] TPX_HD inline rank_set others(wires const& w) {
  return all_but(w, w.rank);
}

/// Which other rank gives in a lane of this one's areas: they have one each, in ascending order.
[[nodiscard]] TPX_HD inline int rank_of(wires const& w, int lane) {
  return lane + static_cast<int>(lane >= w.rank);
}

/// The d-th rank after this one; -1 where there are no more than d ranks.
[[nodiscard]] TPX_HD inline int next_rank(wires const& w, int d) {
  if (d >= w.size()) { return -1; }
  return w.rank + d < w.size() ? w.rank + d : w.rank + d - w.size();
}

}  // namespace tpx
