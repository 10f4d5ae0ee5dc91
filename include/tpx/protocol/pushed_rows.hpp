// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/rows.hpp>
#include <tpx/protocol/shots.hpp>

namespace tpx {

/// An all-reduce over cells with an epilogue of rows: a channel has whole rows, each of which takes
/// `each` rounds, and gives a row to the epilogue once all its packets are there. Every rank has
/// every row in the end, and so every rank's epilogue sees it.
///
/// One shot carries n-1 times the bytes over a rank's link each way, two 2(n-1)/n times, as without
/// an epilogue: what the epilogue adds never crosses a link. In two, a rank folds its share of each
/// row, so that only that share of a residual is read, and what goes round is the new residual.
///
/// A message whose rounds have an area each is given at once; of a longer one two rounds are given
/// ahead of the first that is taken. Happens-before: protocol/push.hpp, since a thread has a packet
/// in every round of its rows or in none: rows are filled up with packets of no elements, fewer
/// than `each`.
template <class Shots>
struct rowwise {
  Shots shots;  // of one row
  std::size_t rows;
  std::uint64_t each;
  std::size_t wide;      // threads with packets: those of a row over `each`, rounded up
  std::uint64_t rounds;  // of the channel with most

  static constexpr bool two = Shots::shots == 2;
  static constexpr std::string_view name = two ? "two-shot, rows" : "one-shot, rows";
  static constexpr unsigned resident_threads = Shots::resident_threads;
  static constexpr unsigned block_threads = two ? row_threads : resident_threads;

  template <folding_group Group>
  TPX_HD void operator()(Group const& group) const {
    turn<Group> const t{group, shots.wiring()};
    bool const at_once = rounds <= window_layout::areas;
    take_turn(
      t, rounds, at_once ? rounds : 2, [&] { return shots.ready(cut(group, 0)); },
      [&](packet const& first) { return play(t, at_once ? rounds : 2, !at_once, first); });
  }

 private:
  template <class Group>
  TPX_HD bool play(turn<Group> const& t, std::uint64_t ahead, bool see, packet const& first) const {
    auto const& group = t.group();
    std::uint64_t const mine = rounds_of(group);
    TPX_ROLLED
    for (std::uint64_t r = 0; r < ahead && r < mine; ++r) { give(t, r, &first); }
    // All threads of a channel go on or none does, since they add up a row together.
    TPX_ROLLED
    for (std::uint64_t r = 0; r < mine + two; ++r) {
      bool ok = r == mine || fold(t, r, see);
      if constexpr (two) { ok = ok && (r == 0 || collect(t, r - 1, see)); }
      if (ok && r + ahead < mine) { give(t, r + ahead, nullptr); }
      if (!group.all(ok)) { return false; }
      std::uint64_t const done = two ? r : r + 1;
      if (done == 0 || done % each != 0) { continue; }
      auto const row = row_at(group, done - 1);
      auto const& job = shots.job;
      job.epilogue.row(row_of<typename Shots::value_type, Group, block_threads>{
        group, job.out + row * job.n, job.n, row});
    }
    return true;
  }

  template <class Group>
  TPX_HD void give(turn<Group> const& t, std::uint64_t round, packet const* first) const {
    auto const d = cut(t.group(), round);
    if (d.has(round)) { shots.give(cells_of(shots, t, d, round), d, round, first); }
  }
  template <class Group>
  TPX_HD bool fold(turn<Group> const& t, std::uint64_t round, bool see) const {
    auto const d = cut(t.group(), round);
    return !d.has(round) || tpx::fold(shots, t, d, round, see);
  }
  template <class Group>
  TPX_HD bool collect(turn<Group> const& t, std::uint64_t round, bool see) const {
    auto const d = cut(t.group(), round);
    return !d.has(round) || tpx::collect(shots, t, d, round, see);
  }

  template <class Group>
  [[nodiscard]] static TPX_HD std::size_t channels(Group const& group) {
    return group.channels() == 1 ? 1 : group.channels() - 1;
  }
  template <class Group>
  [[nodiscard]] static TPX_HD std::size_t channel(Group const& group) {
    return group.channels() == 1 ? 0 : group.channel() - 1;
  }

  /// The row that a round of this channel is of.
  template <class Group>
  [[nodiscard]] TPX_HD std::size_t row_at(Group const& group, std::uint64_t round) const {
    std::uint64_t const nth = each == 1 ? round : round / each;
    return nth * channels(group) + channel(group);
  }
  template <class Group>
  [[nodiscard]] TPX_HD std::uint64_t rounds_of(Group const& group) const {
    std::size_t const c = channel(group);
    return c < rows ? (rows - c - 1) / channels(group) * each + each : 0;
  }
  /// A round's row, dealt to the threads of this channel; in the lanes, channels lie side by side.
  template <class Group>
  [[nodiscard]] TPX_HD deal cut(Group const& group, std::uint64_t round) const {
    std::size_t const me = group.thread_rank();
    std::size_t const begun = each == 1 ? round : round / each * each;
    std::size_t const row = row_at(group, round);
    return {.packets = row < rows && me < wide ? wide * each : 0,
            .me = channel(group) * wide + me,
            .threads = channels(group) * wide,
            .step = wide,
            .begin = me - begun * wide,
            .first = row * shots.job.n};
  }
};

}  // namespace tpx
