// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/packing.hpp>
#include <tpx/space.hpp>

#include <cstddef>

namespace tpx {

/// `cols` columns of a row-major matrix whose rows lie `pitch` elements apart, counted row by row:
/// element i is data[(i / cols) * pitch + i % cols]. A plain array is one row.
template <class T>
struct block {
  T* data;
  std::size_t cols;
  std::size_t pitch;

  [[nodiscard]] TPX_HD T* at(std::size_t i) const {
    return i < cols ? data + i : data + i / cols * pitch + i % cols;  // one row: no division
  }

  /// Calls f(run, offset, length) for each piece of [first, first + count) that lies in one row.
  template <class F>
  TPX_HD void runs(std::size_t first, std::size_t count, F&& f) const {
    if (first + count <= cols) {  // one row: no division
      f(data + first, std::size_t{0}, count);
      return;
    }
    for (std::size_t done = 0; done < count;) {
      std::size_t const row = (first + done) / cols;
      std::size_t const col = (first + done) % cols;
      std::size_t const length = count - done < cols - col ? count - done : cols - col;
      f(data + row * pitch + col, done, length);
      done += length;
    }
  }
};

/// Which columns each rank has of a row-major matrix.
struct columns {
  std::size_t begin[max_ranks];
  std::size_t end[max_ranks];

  [[nodiscard]] TPX_HD std::size_t size(int rank) const { return end[rank] - begin[rank]; }

  /// Rank r's columns of `rows` rows that lie `pitch` elements apart.
  template <class T>
  [[nodiscard]] TPX_HD block<T> of(int rank, T* data, std::size_t pitch) const {
    return {data + begin[rank], size(rank), pitch};
  }

  /// `total` columns cut as evenly as can be, the first ranks having one more.
  [[nodiscard]] static TPX_HD constexpr columns even(std::size_t total, int ranks) {
    columns c{};
    auto const n = static_cast<std::size_t>(ranks);
    std::size_t at = 0;
    for (std::size_t r = 0; r < n; ++r) {
      c.begin[r] = at;
      at += total / n + static_cast<std::size_t>(r < total % n);
      c.end[r] = at;
    }
    return c;
  }
};

/// Whether a thread of G takes elements of T by packets of 16 bytes: where its tile is less. A tile
/// of many bytes a compiler makes vectors of by itself.
template <thread_group G, class T>
inline constexpr bool by_packets = 16 % sizeof(T) == 0 && G::tile * sizeof(T) < 16;

/// Calls f(first, count) for the tiles of [0, n), or the packets of T, that fall to this thread.
template <class T, thread_group G, class F>
TPX_HD void for_tiles(G const& group, std::size_t n, F&& f) {
  constexpr std::size_t tile = by_packets<G, T> ? per_packet<T> : G::tile;
  for (std::size_t i = group.thread_rank() * tile; i < n; i += group.size() * tile) {
    f(i, n - i < tile ? n - i : tile);
  }
}

/// How many elements of a message of n a channel moves at a time: at most a slot's; and where
/// channels would be left without any, as many as its threads, `ways` times, take at once.
template <class T, thread_group G>
[[nodiscard]] TPX_HD std::size_t piece_of(G const& group, std::size_t n, std::size_t slot,
                                          std::size_t ways = 1) {
  constexpr std::size_t tile = by_packets<G, T> ? per_packet<T> : G::tile;
  std::size_t const least = group.size() * tile * ways;
  std::size_t const each = (n + group.channels() - 1) / group.channels();
  std::size_t const whole = (each + least - 1) / least * least;
  return whole < slot && whole != 0 ? whole : slot;
}

/// Calls f(first, count) -> bool for the pieces of [0, n), of `step` at most, that fall to this
/// channel, until one gives false; which it returns.
template <thread_group G, class F>
TPX_HD bool for_pieces(G const& group, std::size_t n, std::size_t step, F&& f) {
  for (std::size_t i = group.channel() * step; i < n; i += group.channels() * step) {
    if (!f(i, n - i < step ? n - i : step)) { return false; }
  }
  return true;
}

/// Elements [first, first + count) of a block, no more than a packet has.
template <class T>
[[nodiscard]] TPX_HD packet read_packet(block<T const> const& from, std::size_t first,
                                        std::size_t count) {
  T const* const run = from.at(first);
  if (from.at(first + count - 1) == run + count - 1) { return read_packet(run, count, 0); }
  packet p{};
  TPX_UNROLL
  for (unsigned j = 0; j < per_packet<T>; ++j) {
    if (j < count) { detail::put(p, j, *from.at(first + j)); }
  }
  return p;
}

/// The reverse.
template <class T>
TPX_HD void write_packet(block<T> const& to, std::size_t first, std::size_t count,
                         packet const& p) {
  T* const run = to.at(first);
  if (to.at(first + count - 1) == run + count - 1) {
    write_packet(run, count, 0, p);
    return;
  }
  TPX_UNROLL
  for (unsigned j = 0; j < per_packet<T>; ++j) {
    if (j < count) { *to.at(first + j) = detail::get<T>(p, j); }
  }
}

/// Copies elements [first, first + n) of a block to the elements from `at` on of another.
template <thread_group G, class T>
TPX_HD void copy(G const& group, block<T const> from, std::size_t first, block<T> to,
                 std::size_t at, std::size_t n) {
  for_tiles<T>(group, n, [&](std::size_t i, std::size_t count) {
    if constexpr (by_packets<G, T>) {
      write_packet(to, at + i, count, read_packet(from, first + i, count));
    } else {
      from.runs(first + i, count, [&](T const* source, std::size_t done, std::size_t some) {
        to.runs(at + i + done, some, [&](T* run, std::size_t offset, std::size_t length) {
          __builtin_memcpy(run, source + offset, length * sizeof(T));
        });
      });
    }
  });
}

/// Copies elements [first, first + n) of a block to an array.
template <thread_group G, class T>
TPX_HD void pack(G const& group, block<T const> from, std::size_t first, std::size_t n, T* to) {
  copy(group, from, first, block<T>{to, n, n}, 0, n);
}

/// Copies an array to elements [first, first + n) of a block.
template <thread_group G, class T>
TPX_HD void unpack(G const& group, T const* from, block<T> to, std::size_t first, std::size_t n) {
  copy(group, block<T const>{from, n, n}, 0, to, first, n);
}

/// Copies elements [first, first + n) of a block to the same places of another.
template <thread_group G, class T>
TPX_HD void copy(G const& group, block<T const> from, block<T> to, std::size_t first,
                 std::size_t n) {
  copy(group, from, first, to, first, n);
}

}  // namespace tpx
