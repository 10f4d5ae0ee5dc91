// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/wires.hpp>
#include <tpx/space.hpp>

namespace tpx {

/// One collective's use of the cells, by all channels of a rank. Channel 0 conducts: it tells the
/// others and hears of them; the other channels play: they move data. A single channel does both.
///
/// Happens-before. A turn goes through the areas round by round, beginning in the one after the
/// last turn's last. Before it has taken any packet it fills cells of its first rounds, and only
/// once it knows that every other rank has ended the turn that used their areas last. For up to two
/// rounds that is turn t-2 or an older one if turn t-1 had up to two rounds, and who has begun turn
/// t-1 has ended turn t-2; else it is turn t-1, and who has begun turn t has ended that. No rank's
/// conductor ends its part of a turn before all have begun it. Later rounds: protocol/push.hpp.
/// What a turn does is ordered before the next one by the stream, or by being of one thread: the
/// end of a kernel is the fence between what it did to cells and the next one's announcement, and
/// between what it heard and what the next one does.
template <thread_group Group>
class turn {
 public:
  TPX_HD turn(Group const& group, wires const& w) : group_{group}, w_{w} {
    auto& all = turns();
    auto const newest = cells::load(all.head.newest);
    auto const last = std::uint64_t{newest.word[1]} << 32 | newest.word[0];
    // A channel that took part in the newest turn, or was none of its channels, is in the next. One
    // that should have taken part but has not joined is in that very turn, which the conductor has
    // written down already.
    bool const written = all.joined[group.channel()] != last && group.channel() < newest.word[2];
    number_ = written ? last : last + 1;
    before_ = written ? newest.word[3] >> 16 : newest.word[3] & 0xffff;
  }

  [[nodiscard]] TPX_HD Group const& group() const { return group_; }
  [[nodiscard]] TPX_HD bool conducts() const { return group_.channel() == 0; }
  [[nodiscard]] TPX_HD bool plays() const { return group_.channels() == 1 || !conducts(); }

  [[nodiscard]] TPX_HD rank_set others() const { return tpx::others(w_); }

  /// The area of a round.
  [[nodiscard]] TPX_HD std::uint32_t area(std::uint64_t round) const {
    return (before_ + static_cast<std::uint32_t>(round)) % window_layout::areas;
  }

  /// Waits until this rank may fill the cells of the first so many rounds. False: the wait was
  /// ended.
  [[nodiscard]] TPX_HD bool open(std::uint64_t rounds) const {
    return (rounds <= 2 && before_ < window_layout::areas) || meet();
  }

  /// The conductor tells the others that this rank has begun.
  TPX_HD void begin() const {
    TPX_ROLLED
    for (int r = static_cast<int>(group_.thread_rank()); r < w_.size();
         r += static_cast<int>(group_.size())) {
      if (r == w_.rank) { continue; }
      cells::store(announcement(w_, r, w_.rank).begun[number() % 2], pack(w_.signature, number()));
      group_.ring(r);
    }
  }

  /// Hears that all others have begun. False: the wait was ended.
  [[nodiscard]] TPX_HD bool meet() const { return hear(group_, w_, number()); }

  /// Grows from round to round and from turn to turn.
  [[nodiscard]] TPX_HD std::uint64_t tick(std::uint64_t rounds) const {
    return number() << 24 | rounds;
  }

  /// Writes down that this channel is in the turn, and the conductor, which turn that is. If the
  /// turn fails, nothing is ever read of it.
  TPX_HD void note(std::uint64_t rounds) const {
    group_.sync();  // all threads of the channel have read
    if (group_.thread_rank() != 0) { return; }
    turns().joined[group_.channel()] = number();
    if (!conducts()) { return; }
    std::uint32_t const after = area(rounds) + (rounds > 2 ? window_layout::areas : 0);
    cells::store(turns().head.newest,
                 pack(number(), std::uint64_t{before_ << 16 | after} << 32 | group_.channels()));
  }

 private:
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

  /// Waits until every other rank has begun turn `which`; all must say the same call of it.
  [[nodiscard, gnu::noinline]] static TPX_HD bool hear(Group const& group, wires const& w,
                                                       std::uint64_t which) {
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
      if (ok && p.below != w.signature) {
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
  // What holds since the turn before: the area in which this one begins, and `areas` more if that
  // one had more than two rounds.
  std::uint32_t before_;
};

/// Carries out a turn of so many rounds, the first `ahead` of which are given before anything is
/// taken: ready() is called on all channels, may read this rank's input, and gives what
/// play(that, ok) -> bool then is called with on those that play; `ok` is false if the wait until
/// cells may be filled was ended. Every rank's part ends only once every other has begun its own,
/// whatever the data.
template <thread_group Group, class Ready, class Play>
TPX_HD void take_turn(turn<Group> const& t, std::uint64_t rounds, std::uint64_t ahead,
                      Ready&& ready, Play&& play) {
  auto const prepared = ready();
  if (t.conducts()) { t.begin(); }
  t.note(rounds);
  if (t.plays() && !play(prepared, t.open(ahead))) { return; }
  if (t.conducts()) { (void)t.meet(); }
}

}  // namespace tpx
