// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/push.hpp>

#include <string_view>

namespace tpx {

/// A message of so many packets, dealt out to threads: in round r, thread t of T has packet
/// r T + t. Every rank's thread t has the same packets in the same rounds. Where a message has
/// rows (protocol/pushed_rows.hpp), it is one of them.
struct deal {
  std::uint32_t packets;
  std::uint32_t me;  // this thread among those that do the same: its place in a lane
  std::uint32_t threads;
  std::uint32_t step = threads;
  std::uint32_t begin = me;
  std::size_t first = 0;  // element at which the row begins

  /// Packets of a message at most: 32 GiB.
  static constexpr std::size_t most = std::size_t{1} << 31;

  [[nodiscard]] TPX_HD std::uint32_t packet(std::uint64_t round) const {
    return static_cast<std::uint32_t>(round) * step + begin;
  }
  [[nodiscard]] TPX_HD bool has(std::uint64_t round) const { return packet(round) < packets; }

  /// Packet `slice` of `slices` that a thread has in a round, next to each other in a lane.
  [[nodiscard]] TPX_HD deal cut(unsigned slice, unsigned slices) const {
    return {packets,          me + slice * threads,    slices * threads,
            slices * threads, begin + slice * threads, first};
  }

  /// To all threads of so many channels, of which this is the place-th.
  template <thread_group Group>
  [[nodiscard]] static TPX_HD deal of(Group const& group, unsigned place, unsigned channels,
                                      std::size_t packets) {
    unsigned const each = group.size();
    return {static_cast<std::uint32_t>(packets), place * each + group.thread_rank(),
            channels * each};
  }
  /// To all that play.
  template <thread_group Group>
  [[nodiscard]] static TPX_HD deal of(Group const& group, std::size_t packets) {
    bool const alone = group.channels() == 1;
    return of(group, alone ? 0 : group.channel() - 1, alone ? 1 : group.channels() - 1, packets);
  }
};

/// Threads of a block of a kernel over cells, unless its protocol says otherwise.
inline constexpr unsigned block_threads = 256;

/// What a collective does to each packet of a message, in one or two shots:
///
/// 1. `shots`: 1 or 2. `peers`: there are at most so many ranks. `wiring()`: the wires.
///    `packets()`: that a thread's index counts. `gives()`, `takes()`: to whom and from whom the
///    first shots go.
/// 2. `ready(cut)`: this thread's first packet, or anything if others give other ones.
///    `source(to, cut, round)`: what rank `to` is given. `give(lanes, cut, round, first)`: gives it
///    to all, `first` being nullptr or what ready() gave.
/// 3. `own(cut, round)`: of this rank's values what `finish(lanes, cut, round, own, got)` wants
///    beside the first shots of the others; that stores what they give, or gives it as the second.
/// 4. `keep(cut, round, got)`: stores the second shots, where there are two.
template <class S>
concept packet_shots = requires(S const s, deal const cut, std::uint64_t round) {
  { S::shots } -> std::convertible_to<int>;
  { S::peers } -> std::convertible_to<int>;
  { s.packets() } -> std::convertible_to<std::size_t>;
  { s.wiring() } -> std::convertible_to<wires const&>;
  { s.gives() } -> std::convertible_to<rank_set>;
  { s.takes() } -> std::convertible_to<rank_set>;
  { s.ready(cut) } -> std::same_as<packet>;
  { s.source(0, cut, round) } -> std::same_as<packet>;
  { s.own(cut, round) } -> std::same_as<typename S::own_values>;
};

/// The cells of a round of a message.
template <packet_shots Shots, thread_group Group>
[[nodiscard]] TPX_HD pushing<Group> cells_of(Shots const& shots, turn<Group> const& t,
                                             deal const& cut, std::uint64_t round) {
  return {t, shots.wiring(), round, Shots::shots * cut.threads};
}

/// What a thread does with its packet of a round, cell by cell. False: a wait was ended. `see`: as
/// pushing::clear() has it.
template <packet_shots Shots, thread_group Group>
[[nodiscard]] TPX_HD bool fold(Shots const& shots, turn<Group> const& t, deal const& cut,
                               std::uint64_t round, packet& done, bool see = false) {
  auto const cells = cells_of(shots, t, cut, round);
  auto const own = shots.own(cut, round);
  packet got[Shots::peers - 1] = {};
  if (!cells.template take<Shots::peers>(shots.takes(), cut.me, got)) { return false; }
  done = shots.finish(cells, cut, round, own, got);
  return cells.template clear<Shots::peers>(shots.takes(), cut.me, see);
}

/// The same with the second shots of the others.
template <packet_shots Shots, thread_group Group>
[[nodiscard]] TPX_HD bool collect(Shots const& shots, turn<Group> const& t, deal const& cut,
                                  std::uint64_t round, bool see = false) {
  auto const cells = cells_of(shots, t, cut, round);
  packet got[Shots::peers - 1] = {};
  if (!cells.template take<Shots::peers>(t.others(), cut.threads + cut.me, got)) { return false; }
  shots.keep(cut, round, got);
  return cells.template clear<Shots::peers>(t.others(), cut.threads + cut.me, see);
}

/// A message of so few rounds that each has an area of its own: all is given, then all is taken.
template <packet_shots Shots>
struct at_once {
  Shots shots;
  std::uint64_t rounds;  // packets over playing threads, rounded up

  static constexpr std::string_view name = Shots::name;
  static constexpr unsigned block_threads = tpx::block_threads;
  static constexpr unsigned resident_threads = Shots::resident_threads;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    turn<Group> const t{group, shots.wiring()};
    deal const cut = deal::of(group, shots.packets());
    take_turn(
      t, rounds, rounds, [&] { return shots.ready(cut); },
      [&](packet const& first, bool ok) {
        if (!ok) { return false; }
        TPX_ROLLED
        for (std::uint64_t r = 0; cut.has(r); ++r) {
          shots.give(cells_of(shots, t, cut, r), cut, r, &first);
        }
        TPX_ROLLED
        for (std::uint64_t r = 0; cut.has(r); ++r) {
          packet done;
          if (!fold(shots, t, cut, r, done)) { return false; }
        }
        if constexpr (Shots::shots == 2) {
          TPX_ROLLED
          for (std::uint64_t r = 0; cut.has(r); ++r) {
            if (!collect(shots, t, cut, r)) { return false; }
          }
        }
        return true;
      });
  }
};

}  // namespace tpx
