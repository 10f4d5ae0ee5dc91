// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/wires.hpp>
#include <tpx/space.hpp>
#include <tpx/topology/topology.hpp>

namespace tpx {

/// One collective's use of the cells, by all channels of a rank. Channel 0 conducts: it tells the
/// others and hears of them; the other channels play: they move data. A single channel does both.
///
/// Happens-before. A turn goes through the areas round by round, beginning in the one after the
/// last turn's last. Before it has taken any packet it fills cells of its first rounds, and only
/// once it knows that every other rank has ended the turn that used their areas last. For up to two
/// rounds that is turn t-2 or an older one if turn t-1 had up to two rounds, and who has begun turn
/// t-1 has ended turn t-2; else it is turn t-1, and who has begun turn t has ended that. Beginnings
/// are heard of by the conductor, before its part of a turn ends where the collective implies that
/// all ranks come, else before the next turn's first cell is filled. Later rounds:
/// protocol/push.hpp. What a turn does is ordered before the next one by the stream, or by being of
/// one thread: the end of a kernel is the fence between what it did to cells and the next one's
/// announcement, and between what it heard and what the next one does.
template <thread_group Group>
class turn {
 public:
  TPX_HD turn(Group const& group, wires const& w) : group_{group}, w_{w} {
    auto& all = turns();
    state const even = all.after[0];
    state const odd = all.after[1];
    auto const newest = unpack(cells::load(all.head.newest));
    auto const joined = all.joined[group.channel()];
    // A channel that took part in the newest turn, or was none of its channels, is in the next. One
    // that should have taken part but has not joined is in that very turn, which the conductor has
    // written down already; of the two states it then reads the one that nobody writes, and drops
    // the other.
    bool const written = joined != newest.below && group.channel() < newest.above;
    number_ = written ? newest.below : newest.below + 1;
    bool const after_odd = number_ % 2 == 0;  // by value: to stay in registers
    was_ = {after_odd ? odd.met : even.met, after_odd ? odd.needed : even.needed,
            after_odd ? odd.area : even.area, after_odd ? odd.signature : even.signature};
  }

  [[nodiscard]] TPX_HD Group const& group() const { return group_; }
  [[nodiscard]] TPX_HD bool conducts() const { return group_.channel() == 0; }
  [[nodiscard]] TPX_HD bool plays() const { return group_.channels() == 1 || !conducts(); }

  [[nodiscard]] TPX_HD rank_set others() const {
    return ((rank_set{1} << w_.size()) - 1) & ~(rank_set{1} << w_.rank);
  }

  /// The area of a round.
  [[nodiscard]] TPX_HD std::uint32_t area(std::uint64_t round) const {
    return static_cast<std::uint32_t>(was_.area + round) % window_layout::areas;
  }

  /// Waits until this rank may fill the cells of the first so many rounds. False: the wait was
  /// ended.
  [[nodiscard]] TPX_HD bool open(std::uint64_t rounds) const {
    auto const needed = rounds > 2 ? number() : was_.needed;
    if (was_.met >= needed) { return true; }
    return hear(group_, w_, needed, w_.signature, needed == number());
  }

  /// The conductor tells the others that this rank has begun, but is never two turns ahead of one.
  [[nodiscard]] TPX_HD bool begin() const {
    if (was_.met + 1 < number() && !hear(group_, w_, number() - 1, was_.signature)) {
      return false;
    }
    TPX_ROLLED
    for (int r = static_cast<int>(group_.thread_rank()); r < w_.size();
         r += static_cast<int>(group_.size())) {
      if (r == w_.rank) { continue; }
      cells::store(announcement(w_, r, w_.rank).begun[number() % 2], pack(w_.signature, number()));
      group_.ring(r);
    }
    return true;
  }

  /// The conductor hears that all others have begun. False: the wait was ended.
  [[nodiscard]] TPX_HD bool meet() const { return hear(group_, w_, number(), w_.signature); }

  /// Writes down that this channel is in the turn, and the conductor, what holds after it. If the
  /// turn fails, nothing is ever read of it.
  TPX_HD void note(bool all_come, std::uint64_t rounds) const {
    group_.sync();  // all threads of the channel have read
    if (group_.thread_rank() != 0) { return; }
    turns().joined[group_.channel()] = number();
    if (!conducts()) { return; }
    turns().after[number() % 2] = {.met = all_come ? number() : was_.met,
                                   .needed = number() + (rounds > 2 ? 1 : 0),
                                   .area = was_.area + rounds,
                                   .signature = w_.signature};
    cells::store(turns().head.newest, pack(number(), group_.channels()));
  }

 private:
  using state = window_layout::turns::state;
  struct pair {
    std::uint64_t below;
    std::uint64_t above;
  };
  [[nodiscard]] static TPX_HD packet pack(std::uint64_t below, std::uint64_t above) {
    return {{static_cast<std::uint32_t>(below), static_cast<std::uint32_t>(below >> 32),
             static_cast<std::uint32_t>(above), static_cast<std::uint32_t>(above >> 32)}};
  }
  [[nodiscard]] static TPX_HD pair unpack(packet const& p) {
    return {std::uint64_t{p.word[1]} << 32 | p.word[0], std::uint64_t{p.word[3]} << 32 | p.word[2]};
  }

  /// Waits until every other rank has begun turn `which`; all must say `signature` of it.
  [[nodiscard, gnu::noinline]] static TPX_HD bool hear(Group const& group, wires const& w,
                                                       std::uint64_t which, std::uint64_t signature,
                                                       bool compare = true) {
    bool ok = true;
    TPX_ROLLED
    for (int r = static_cast<int>(group.thread_rank()); ok && r < w.size();
         r += static_cast<int>(group.size())) {
      if (r == w.rank) { continue; }
      auto& said = announcement(w, w.rank, r).begun[which % 2];
      pair p{};
      for (unsigned polls = 0;; ++polls) {
        p = unpack(cells::load(said));
        if (p.above >= which) { break; }
        ok = group.pause(polls, said.upper, goal{which}, r);
        if (!ok) { break; }
      }
      if (ok && compare && p.below != signature) {
        group.mismatch(r, p.below);
        ok = false;
      }
    }
    return group.all(ok);
  }

  [[nodiscard]] TPX_HD std::uint64_t number() const { return number_; }
  [[nodiscard]] static TPX_HD window_layout::announcement& announcement(wires const& w, int owner,
                                                                        int peer) {
    return reinterpret_cast<window_layout::announcement*>(w.window[owner] +
                                                          w.at.announcements)[peer];
  }
  [[nodiscard]] TPX_HD window_layout::turns& turns() const {
    auto* const here = w_.window[w_.rank] + w_.at.turns;
    return w_.turns != nullptr ? *w_.turns : *reinterpret_cast<window_layout::turns*>(here);
  }

  Group const& group_;
  wires const& w_;
  std::uint64_t number_;
  state was_;
};

/// Carries out a turn of so many rounds, the first `ahead` of which are given before anything is
/// taken: ready() is called on all channels and gives what
/// play(turn, that) -> bool then is called with on those that play; it may read this rank's input.
/// `all_come`: every rank's part ends only once every other has begun its own, whatever the data.
template <thread_group Group, class Ready, class Play>
TPX_HD void take_turn(turn<Group> const& t, bool all_come, std::uint64_t rounds,
                      std::uint64_t ahead, Ready&& ready, Play&& play) {
  auto const prepared = ready();
  if (t.conducts() && !t.begin()) { return; }
  t.note(all_come, rounds);
  if (t.plays() && !(t.open(ahead) && play(prepared))) { return; }
  if (t.conducts() && all_come) { (void)t.meet(); }
}

}  // namespace tpx
