// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/packing.hpp>
#include <tpx/protocol/shots.hpp>

namespace tpx {

/// Every rank gives its values to some ranks and takes those of some: all-gather, broadcast and
/// gather, of equal parts that lie without gaps. Peers: there are at most so many ranks.
template <class T, int Peers>
struct pushed_copy {
  wires w;
  T const* in;  // (n), if anybody is given it
  T* out;       // rank r's values at out + r * stride
  std::size_t n;
  std::size_t stride;  // elements; 0: all come from one rank
  rank_set to;
  rank_set from;
  bool keeps;  // whether `in` is copied to its own place in `out` too

  static constexpr std::string_view name = "push";
  static constexpr std::string_view streamed_name = "push, streamed";
  static constexpr std::string_view rolling_name = "push, rolling";
  static constexpr int shots = 1;
  static constexpr int peers = Peers;
  static constexpr unsigned resident_threads = Peers <= 4 ? 1024 : 512;

  [[nodiscard]] TPX_HD wires const& wiring() const { return w; }
  [[nodiscard]] TPX_HD std::size_t packets() const { return packets_of<T>(n); }
  [[nodiscard]] TPX_HD rank_set gives() const { return to; }
  [[nodiscard]] TPX_HD rank_set takes() const { return from; }

  [[nodiscard]] TPX_HD packet ready(deal const& cut) const {
    return cut.has(0) && (to != 0 || keeps) ? source(0, cut, 0) : packet{};
  }

  [[nodiscard]] TPX_HD packet source(int, deal const& cut, std::uint64_t round) const {
    return read_packet(in, n, cut.packet(round));
  }

  template <class Lanes>
  TPX_HD void give(Lanes const& lanes, deal const& cut, std::uint64_t round,
                   packet const* first) const {
    if (to == 0) { return; }
    packet const own = round == 0 && first != nullptr ? *first : source(0, cut, round);
    TPX_UNROLL
    for (int d = 1; d < Peers; ++d) {
      int const r = next_rank(w, d);
      if (r >= 0 && (to >> r & 1u) != 0) { lanes.give(r, cut.me, own); }
    }
  }

  using own_values = packet;
  [[nodiscard]] TPX_HD packet own(deal const& cut, std::uint64_t round) const {
    return keeps ? source(0, cut, round) : packet{};
  }

  template <class Lanes>
  TPX_HD packet finish(Lanes const&, deal const& cut, std::uint64_t round, packet const& own,
                       packet const (&got)[Peers - 1]) const {
    std::size_t const k = cut.packet(round);
    TPX_UNROLL
    for (int lane = 0; lane + 1 < Peers; ++lane) {
      int const r = rank_of(w, lane);
      if ((from >> r & 1u) != 0) {
        write_packet(out + static_cast<std::size_t>(r) * stride, n, k, got[lane]);
      }
    }
    if (keeps) { write_packet(out + static_cast<std::size_t>(w.rank) * stride, n, k, own); }
    return own;
  }
};

}  // namespace tpx
