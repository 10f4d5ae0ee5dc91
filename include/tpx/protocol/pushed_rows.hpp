// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/rows.hpp>
#include <tpx/protocol/shots.hpp>

namespace tpx {

/// An all-reduce over cells with an epilogue of rows: a team of channels has whole rows, each of
/// which takes `each` rounds, and gives a row to the epilogue once all its packets are there. Every
/// rank has every row in the end, and so every rank's epilogue sees it. The first team conducts.
/// Members: channels of a team. A row on as many multiprocessors takes less time: each issues every
/// instruction once for 32 threads.
///
/// A thread whose wait was ended goes on without giving and taking, since its team folds together.
///
/// One shot carries n-1 times the bytes over a rank's link each way, two 2(n-1)/n times, as without
/// an epilogue: what the epilogue adds never crosses a link. In two, a rank folds its share of each
/// row, so that only that share of a residual is read, and what goes round is the new residual.
///
/// A message whose rounds have an area each is given at once; of a longer one two rounds are given
/// ahead of the first that is taken. Happens-before: protocol/push.hpp, since a thread has a packet
/// in every round of its rows or in none: rows are filled up with packets of no elements, fewer
/// than `each`.
template <class Shots, unsigned Members>
struct rowwise {
  Shots shots;  // of one row
  std::uint32_t rows;
  std::uint32_t each;
  std::uint32_t wide;    // threads with packets: those of a row over `each`, rounded up
  std::uint32_t rounds;  // of the team with most

  static constexpr bool two = Shots::shots == 2;
  static constexpr std::string_view name = two ? "two-shot, rows" : "one-shot, rows";
  static constexpr unsigned members = Members;
  static constexpr unsigned block_threads = row_lanes / Members;
  static constexpr unsigned resident_blocks = Members == 1 || Shots::peers > 4 ? 1
                                              : Shots::peers > 2               ? 2
                                                                               : 3;
  static constexpr unsigned resident_threads = resident_blocks * block_threads;

  template <folding_group Group>
  TPX_HD void operator()(Group const& group) const {
    turn<Group> const t{group, shots.wiring()};
    std::uint32_t const ahead = rounds <= window_layout::areas ? rounds : 2;
    take_turn(
      t, rounds, ahead, [&] { return shots.ready(cut(group, walk{team(group)})); },
      [&](packet const& first, bool ok) { return play(t, ahead, first, ok); });
  }

 private:
  /// Where a team is: rows are dealt out in turn, each of which takes `each` rounds.
  struct walk {
    std::uint32_t row;
    std::uint32_t piece = 0;  // of the row
    std::uint32_t round = 0;  // of the turn
  };
  template <class Group>
  TPX_HD void go_on(Group const& group, walk& at) const {
    ++at.round;
    if (++at.piece == each) {
      at.piece = 0;
      at.row += teams(group);
    }
  }

  template <class Group>
  TPX_HD bool play(turn<Group> const& t, std::uint32_t ahead, packet const& first, bool ok) const {
    auto const& group = t.group();
    auto const& job = shots.job;
    bool const see = rounds > window_layout::areas;
    std::uint32_t const begin = team(group);
    walk giving{begin};
    walk folding{begin};
    walk collecting{begin};
    walk const& done = two ? collecting : folding;
    std::uint32_t whole = rows;           // the row that is there and was not shown to the epilogue
    packet last{};                        // that this thread folded
    bool const kept = !two && each == 1;  // each thread of a row has what it needs of it
    bool met = false;
    group.arrive();
    TPX_ROLLED
    for (;;) {
      TPX_ROLLED
      while (giving.row < rows && giving.round < folding.round + ahead) {
        auto const d = cut(group, giving);
        if (ok && d.has(giving.round)) {
          shots.give(cells_of(shots, t, d, giving.round), d, giving.round, &first);
        }
        go_on(group, giving);
      }
      if (!met && (whole < rows || done.row >= rows)) {
        group.await();
        met = true;
      }
      if (whole < rows) {
        auto* const row = job.out + std::size_t{whole} * job.n;
        if (!kept) {
          group.meet();
          last = read_packet(row, job.n, group.member() * block_threads + group.thread_rank());
        }
        job.epilogue.row(row_of<typename Shots::value_type, Group>{group, row, job.n, whole, last});
        whole = rows;
      }
      if (done.row >= rows) { return ok; }
      std::uint32_t const row = done.row;
      std::uint32_t const folded = folding.round;
      if (folding.row < rows) {
        auto const d = cut(group, folding);
        ok = ok && (!d.has(folding.round) || fold(shots, t, d, folding.round, last, see));
        go_on(group, folding);
      }
      if constexpr (two) {
        if (collecting.round < folded) {
          auto const d = cut(group, collecting);
          ok = ok && (!d.has(collecting.round) || collect(shots, t, d, collecting.round, see));
          go_on(group, collecting);
        }
      }
      if (done.row != row) { whole = row; }
    }
  }

  template <class Group>
  [[nodiscard]] static TPX_HD std::uint32_t teams(Group const& group) {
    return group.channels() == 1 ? 1 : group.channels() / Members - 1;
  }
  /// Which of the teams with rows; beyond all rows, if it conducts.
  template <class Group>
  [[nodiscard]] static TPX_HD std::uint32_t team(Group const& group) {
    return group.channels() == 1 ? 0 : group.channel() / Members - 1;
  }

  /// A round's row, dealt to the threads of a team; in the lanes, teams lie side by side.
  template <class Group>
  [[nodiscard]] TPX_HD deal cut(Group const& group, walk const& at) const {
    std::uint32_t const me = group.channel() % Members * group.size() + group.thread_rank();
    bool const has = at.row < rows && me < wide;
    return {.packets = has ? wide * each : 0,
            .me = team(group) * wide + me,
            .threads = teams(group) * wide,
            .step = wide,
            .begin = me + (at.piece - at.round) * wide,
            .first = std::size_t{at.row} * shots.job.n};
  }
};

}  // namespace tpx
