// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/push.hpp>

#include <string_view>

namespace tpx {

/// A message of so many packets, dealt out to threads: in round r, thread t of T has packet
/// r T + t. Every rank's thread t has the same packets in the same rounds. Where a message has
/// rows (protocol/pushed_rows.hpp), it is one of them.
struct deal {
  std::size_t packets;
  std::size_t me;  // this thread among those that play, or of its crew: its place in a lane
  std::size_t threads;
  std::size_t step = threads;
  std::size_t begin = me;
  std::size_t first = 0;  // element at which the row begins

  [[nodiscard]] TPX_HD std::size_t packet(std::uint64_t round) const {
    return round * step + begin;
  }
  [[nodiscard]] TPX_HD bool has(std::uint64_t round) const { return packet(round) < packets; }

  /// To all threads of the channels that play, which are so many crews each.
  template <thread_group Group>
  [[nodiscard]] static TPX_HD deal of(Group const& group, std::size_t packets, unsigned crews = 1) {
    unsigned const channels = group.channels();
    unsigned const each = group.size() / crews;
    unsigned const before = channels == 1 ? 0 : group.channel() - 1;
    unsigned const here = crews == 1 ? group.thread_rank() : group.thread_rank() % each;
    return {packets, before * each + here, (channels == 1 ? 1 : channels - 1) * each};
  }
};

/// Threads of a block of a kernel over cells, or of a crew where it has crews.
inline constexpr unsigned block_threads = 256;
inline constexpr unsigned crew_threads = 128;

/// What a collective over cells does to each packet of a message, in one or two shots:
///
/// 1. `shots`: 1 or 2. `wiring()`: the wires. `packets()`: that a thread's index counts.
/// 2. `ready(cut)`: reads this thread's first packet; `give(turn, cut, round, first)` gives the
///    first shot, `first` being nullptr or what ready() gave.
/// 3. `fold(turn, cut, round)`: takes the first shots, gives the second; false if a wait was ended.
/// 4. `collect(turn, cut, round)`: takes the second shots, where there are two.
/// 5. `clear(turn, cut, round, shot, see)`: empties the cells of a shot; `see`: and sees them so;
///    false if a wait was ended.
template <class S, class Group>
concept shots_over = requires(S const s, turn<Group> const t, deal const cut, std::uint64_t round) {
  { S::shots } -> std::convertible_to<int>;
  { s.packets() } -> std::convertible_to<std::size_t>;
  { s.wiring() } -> std::convertible_to<wires const&>;
  s.give(t, cut, round, nullptr);
  { s.fold(t, cut, round) } -> std::same_as<bool>;
  { s.clear(t, cut, round, 1, true) } -> std::same_as<bool>;
}
&&(S::shots == 1 || requires(S const s, turn<Group> const t, deal const cut) {
  { s.collect(t, cut, 0) } -> std::same_as<bool>;
});

/// A message of so few rounds that each has an area of its own: all is given, then all is taken.
template <class Shots>
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
      [&](packet const& first) {
        TPX_ROLLED
        for (std::uint64_t r = 0; cut.has(r); ++r) { shots.give(t, cut, r, &first); }
        TPX_ROLLED
        for (std::uint64_t r = 0; cut.has(r); ++r) {
          if (!shots.fold(t, cut, r)) { return false; }
          if (!shots.clear(t, cut, r, 1, false)) { return false; }
        }
        if constexpr (Shots::shots == 2) {
          TPX_ROLLED
          for (std::uint64_t r = 0; cut.has(r); ++r) {
            if (!shots.collect(t, cut, r)) { return false; }
            if (!shots.clear(t, cut, r, 2, false)) { return false; }
          }
        }
        return true;
      });
  }
};

/// A message of any number of rounds. Two are given ahead of the first that is taken. Where a
/// block's threads can be crews, one gives, one folds, one collects (if there are two shots), and
/// the last empties the cells; else one thread does all in turn.
template <class Shots>
struct streamed {
  Shots shots;
  std::uint64_t rounds;  // packets over the playing threads of a crew, rounded up

  static constexpr std::string_view name = Shots::streamed_name;
  static constexpr unsigned crews = Shots::shots + 1;
  static constexpr unsigned block_threads = crews * crew_threads;
  static constexpr unsigned resident_threads =
    Shots::resident_threads / block_threads * block_threads;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    turn<Group> const t{group, shots.wiring()};
    if constexpr (requires { group.template split<crews>(); }) {
      auto const all = group.template split<crews>();
      deal const cut = deal::of(group, shots.packets(), crews);
      take_turn(
        t, rounds, 2, [] { return 0; }, [&](int) { return side_by_side(t, cut, all); });
    } else {
      deal const cut = deal::of(group, shots.packets());
      take_turn(
        t, rounds, 2, [] { return 0; }, [&](int) { return in_sequence(t, cut); });
    }
  }

 private:
  template <class Group>
  TPX_HD bool in_sequence(turn<Group> const& t, deal const& cut) const {
    for (std::uint64_t round = 0; round < 3 || cut.has(round - 3); ++round) {
      if (round >= 2 && cut.has(round - 2)) {
        if (!shots.fold(t, cut, round - 2)) { return false; }
        if (!shots.clear(t, cut, round - 2, 1, true)) { return false; }
      }
      if constexpr (Shots::shots == 2) {
        if (round >= 3 && cut.has(round - 3)) {
          if (!shots.collect(t, cut, round - 3)) { return false; }
          if (!shots.clear(t, cut, round - 3, 2, true)) { return false; }
        }
      }
      if (cut.has(round)) { shots.give(t, cut, round, nullptr); }
    }
    return true;
  }

  /// Threads that tell each other how far they are must do so together: all of them stay until none
  /// has a packet left, or a wait of one was ended.
  template <class Group, class Crews>
  TPX_HD bool side_by_side(turn<Group> const& t, deal const& cut, Crews const& all) const {
    TPX_ROLLED
    for (std::uint64_t round = 0; all.any(cut.has(round)); ++round) {
      if (all.any(!part(t, cut, all, round))) { return false; }
      all.tell(round + 1);
    }
    return true;
  }

  /// What the thread's crew does in a round.
  template <class Group, class Crews>
  TPX_HD bool part(turn<Group> const& t, deal const& cut, Crews const& all,
                   std::uint64_t round) const {
    constexpr unsigned last = Shots::shots;
    bool const mine = cut.has(round);
    auto const role = all.role();
    if (role == 0) {
      if (round >= 2 && !all.until(last, round - 1)) { return false; }
      if (mine) { shots.give(t, cut, round, nullptr); }
      return true;
    }
    // Where the output is the input, what this crew writes must have been given before; and what
    // was given was so after the last crew emptied these cells of what they held before.
    if (!all.until(role - 1, round + 1)) { return false; }
    if (!mine) { return true; }
    if constexpr (last == 2) {
      if (role == 2) {
        return shots.collect(t, cut, round) && shots.clear(t, cut, round, 2, true) &&
               shots.clear(t, cut, round, 1, true);
      }
    }
    return shots.fold(t, cut, round) && (last == 2 || shots.clear(t, cut, round, 1, true));
  }
};

}  // namespace tpx
