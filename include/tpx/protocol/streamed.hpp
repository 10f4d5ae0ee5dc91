// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/progress.hpp>
#include <tpx/protocol/shots.hpp>

namespace tpx {

/// A message of any number of rounds. A thread has several packets in a round, and a flag for a
/// channel's whole round says that they are there: that costs a fence a round, where cells that say
/// so themselves must each be emptied and be seen empty. Some channels give, as many others fold,
/// as many others collect (if there are two shots); a channel alone does all in turn.
///
/// Apart, because on a GPU a fence waits for all stores of its multiprocessor: one that says what
/// was read would wait for what is given.
///
/// Happens-before (flags: protocol/progress.hpp). The first two rounds are given as in any turn;
/// the third once all others have begun this one, and so have ended those that used its area; round
/// r from the fifth on once all that are given it have taken round r-4, whose area it fills. Second
/// shots of round r are given by who has taken first ones of this turn from everybody, and from the
/// fifth on once everybody has collected round r-4. What is not filled again is emptied.
template <packet_shots Shots>
struct streamed {
  Shots shots;
  std::uint64_t rounds;  // packets over a round's: `slices` for each thread that does one step

  static constexpr std::string_view name = Shots::streamed_name;
  static constexpr int peers = Shots::peers;
  static constexpr bool two = Shots::shots == 2;
  static constexpr unsigned steps = Shots::shots + 1;
  static constexpr unsigned slices = two ? 1 : peers <= 2 ? 4 : 2;
  static constexpr unsigned block_threads = peers <= 4 ? 512 : 256;
  static constexpr unsigned resident_threads = block_threads;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    turn<Group> const t{group, shots.wiring()};
    bool const alone = group.channels() == 1;
    unsigned const each = alone ? 1 : (group.channels() - 1) / steps;
    unsigned const nth = alone || t.conducts() ? 0 : group.channel() - 1;
    part<Group> const mine{*this, t, nth % each, each};
    take_turn(
      t, rounds, 2, [] { return 0; },
      [&](int, bool ok) {
        return ok && (alone ? in_sequence(mine) : in_one(mine, static_cast<step>(nth / each)));
      });
  }

 private:
  static constexpr unsigned areas = window_layout::areas;
  using step = window_layout::step;

  /// What a channel does in a round. False: a wait was ended.
  template <class Group>
  class part {
   public:
    TPX_HD part(streamed const& all, turn<Group> const& t, unsigned place, unsigned channels)
        : all_{all},
          t_{t},
          marks_{t, all.shots.wiring(), place},
          cut_{deal::of(t.group(), place, channels, all.shots.packets())} {}

    [[nodiscard]] TPX_HD std::uint64_t rounds() const { return all_.rounds; }
    [[nodiscard]] TPX_HD Group const& group() const { return t_.group(); }

    /// Waits until a round may be given; all threads meet.
    [[nodiscard]] TPX_HD bool may_give(std::uint64_t round) const {
      if (round == 2) { return t_.meet(); }
      if (round >= areas) { return marks_.until(shots().gives(), step::taken, round - areas + 1); }
      group().sync();
      return true;
    }

    TPX_HD void give(std::uint64_t round) const {
      auto const to = shots().gives();
      auto const lanes = lanes_at(round);
      TPX_UNROLL
      for (int d = 1; d < peers; ++d) {
        int const r = next_rank(shots().wiring(), d);
        if (r < 0 || (to >> r & 1u) == 0) { continue; }
        packet p[slices];
        some<slices>(round, 0,
                     [&](unsigned i, deal const& cut) { p[i] = shots().source(r, cut, round); });
        some<slices>(round, 0, [&](unsigned i, deal const& cut) { lanes.give(r, cut.me, p[i]); });
      }
    }

    /// After a meeting. This rank is told too, since it may fold into what it gives from.
    TPX_HD void tell_given(std::uint64_t round) const {
      marks_.tell(shots().gives() | self(), step::given, round + 1);
    }

    [[nodiscard]] TPX_HD bool fold(std::uint64_t round) const {
      auto const from = shots().takes();
      if (!marks_.until(from | self(), step::given, round + 1)) { return false; }
      if constexpr (two) {
        if (round >= areas && !marks_.until(from, step::collected, round - areas + 1)) {
          return false;
        }
      }
      auto const lanes = lanes_at(round);
      TPX_UNROLL
      for (unsigned slice = 0; slice < slices; slice += at_a_time) {
        typename Shots::own_values own[at_a_time];
        packet got[at_a_time][peers - 1];
        some<at_a_time>(round, slice, [&](unsigned i, deal const& cut) {
          own[i] = shots().own(cut, round);
          lanes.template look<peers>(from, cut.me, got[i]);
        });
        some<at_a_time>(round, slice, [&](unsigned i, deal const& cut) {
          (void)shots().finish(lanes, cut, round, own[i], got[i]);
          if (last(cut, round)) { lanes.template empty<peers>(from, cut.me); }
        });
      }
      group().sync();
      marks_.tell(from, step::taken, round + 1);
      return true;
    }

    [[nodiscard]] TPX_HD bool collect(std::uint64_t round) const {
      auto const from = t_.others();
      if (!marks_.until(from, step::taken, round + 1)) { return false; }
      auto const lanes = lanes_at(round);
      some<slices>(round, 0, [&](unsigned, deal const& cut) {
        packet got[peers - 1];
        lanes.template look<peers>(from, cut.threads + cut.me, got);
        shots().keep(cut, round, got);
        if (last(cut, round)) { lanes.template empty<peers>(from, cut.threads + cut.me); }
      });
      group().sync();
      marks_.tell(from, step::collected, round + 1);
      return true;
    }

   private:
    /// Packets that a thread holds of each rank.
    static constexpr unsigned at_a_time = slices < 2 ? slices : 2;

    [[nodiscard]] TPX_HD Shots const& shots() const { return all_.shots; }
    [[nodiscard]] TPX_HD rank_set self() const { return rank_set{1} << shots().wiring().rank; }
    [[nodiscard]] TPX_HD laying<Group> lanes_at(std::uint64_t round) const {
      return {t_, shots().wiring(), round, Shots::shots * slices * cut_.threads};
    }
    /// f(i, cut) for those of so many slices, from `first` on, in which this thread has a packet.
    template <unsigned Many, class F>
    TPX_HD void some(std::uint64_t round, unsigned first, F const& f) const {
      TPX_UNROLL
      for (unsigned i = 0; i < Many; ++i) {
        deal const cut = cut_.cut(first + i, slices);
        if (cut.has(round)) { f(i, cut); }
      }
    }
    /// Whether nothing comes into the packet's place any more.
    [[nodiscard]] static TPX_HD bool last(deal const& cut, std::uint64_t round) {
      return !cut.has(round + areas);
    }

    streamed const& all_;
    turn<Group> const& t_;
    progress<Group> marks_;
    deal cut_;
  };

  template <class Part>
  [[nodiscard]] static TPX_HD bool in_sequence(Part const& p) {
    for (std::uint64_t r = 0; r < p.rounds() + 3; ++r) {
      if (r >= 2 && r - 2 < p.rounds() && !p.fold(r - 2)) { return false; }
      if constexpr (two) {
        if (r >= 3 && !p.collect(r - 3)) { return false; }
      }
      if (r >= p.rounds()) { continue; }
      if (!p.may_give(r)) { return false; }
      p.give(r);
      p.group().sync();
      p.tell_given(r);
    }
    return true;
  }

  template <class Part>
  [[nodiscard]] static TPX_HD bool in_one(Part const& p, step s) {
    TPX_ROLLED
    for (std::uint64_t r = 0; r < p.rounds(); ++r) {
      bool ok = true;
      if (s == step::given) {
        p.give(r);
        // So all meet once a round, and go on to the next one while the first threads tell.
        ok = p.may_give(r + 1);
        if (ok) { p.tell_given(r); }
      } else if (s == step::taken) {
        ok = p.fold(r);
      } else if constexpr (two) {
        ok = p.collect(r);
      }
      if (!ok) { return false; }
    }
    return true;
  }
};

}  // namespace tpx
