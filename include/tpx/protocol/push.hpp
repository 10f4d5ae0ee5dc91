// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/number.hpp>
#include <tpx/protocol/turn.hpp>
#include <tpx/runtime/cell.hpp>

namespace tpx {

/// Where the packets of a round lie: in the round's area of whoever is given them.
template <thread_group Group>
class lanes {
 public:
  /// `width`: the most packets that one rank gives to one other in a round.
  TPX_HD lanes(turn<Group> const& t, wires const& w, std::uint64_t round, std::size_t width)
      : t_{t}, w_{w}, area_{t.area(round)}, width_{static_cast<std::uint32_t>(width)} {}

  /// Empties the cells that packet `k` of each of `from`, all of whom are below Peers, lay in.
  template <int Peers>
  TPX_HD void empty(rank_set from, std::size_t k) const {
    this->template each_lane<Peers>(from, [&](int lane) { cells::clear(cell_of(lane, k)); });
  }

 protected:
  [[nodiscard]] TPX_HD Group const& group() const { return t_.group(); }
  [[nodiscard]] TPX_HD int rank() const { return w_.rank; }

  /// f(lane) for the lanes of this rank's areas in which `from` give.
  template <int Peers, class F>
  TPX_HD void each_lane(rank_set from, F const& f) const {
    TPX_UNROLL
    for (int lane = 0; lane + 1 < Peers; ++lane) {
      if ((from >> rank_of(lane) & 1u) != 0) { f(lane); }
    }
  }
  /// The cell of packet `k` in a lane of the round's area, at whosever.
  [[nodiscard]] TPX_HD std::uint32_t place(int lane, std::size_t k) const {
    return static_cast<std::uint32_t>(lane) * width_ + static_cast<std::uint32_t>(k);
  }
  /// This rank's lane at another.
  [[nodiscard]] TPX_HD int lane_at(int to) const { return w_.rank > to ? w_.rank - 1 : w_.rank; }
  [[nodiscard]] TPX_HD int rank_of(int lane) const { return tpx::rank_of(w_, lane); }
  [[nodiscard]] TPX_HD cell& cell_of(int lane, std::size_t k) const {
    return cell_at(rank(), place(lane, k));
  }
  [[nodiscard]] TPX_HD cell& cell_at(int owner, std::uint32_t at) const {
    auto const offset = w_.at.cells + area_ * w_.at.area + at * 16;
    return *reinterpret_cast<cell*>(w_.window[owner] + offset);
  }
  [[nodiscard]] TPX_HD unsigned char& aside(int owner, std::uint32_t at) const {
    auto const offset = w_.at.asides + area_ * (w_.at.area / 16) + at;
    return *reinterpret_cast<unsigned char*>(w_.window[owner] + offset);
  }

 private:
  turn<Group> const& t_;
  wires const& w_;
  std::uint32_t area_;
  std::uint32_t width_;
};

/// What changes hands in one round of a turn, cell by cell.
///
/// Happens-before, within a turn (its first rounds: protocol/turn.hpp). A thread gives its first
/// shot of round r after it has taken those of round r-2 and seen their cells empty again. So a
/// packet of round r-2 from thread t of B says that B's cells of rounds up to r-4 are empty, for
/// good; and thread t of A, which gives round r only after that packet was taken, fills the same
/// ones. A second shot of round r is given once the first ones of round r are taken, from
/// everybody, which says the same. A taken packet is whole because a cell changes hands whole.
template <thread_group Group>
class pushing : public lanes<Group> {
  using base = lanes<Group>;
  using base::aside, base::cell_at, base::cell_of, base::group, base::lane_at, base::place,
    base::rank, base::rank_of;

 public:
  using base::base;

  /// Hands packet `k` of the round to rank `to`.
  TPX_HD void give(int to, std::size_t k, packet p) const {
    auto const at = place(lane_at(to), k);
    if (p.word[3] == cells::nothing || p.word[3] == cells::masked) {
      p.word[3] = mask(aside(to, at), p.word[3]);
    }
    cells::store(cell_at(to, at), p);
    group().ring(to);
  }

  /// Waits for packet `k` of each of `from`, all of whom are below Peers; by lane. False: the wait
  /// was ended.
  template <int Peers>
  [[nodiscard]] TPX_HD bool take(rank_set from, std::size_t k, packet (&got)[Peers - 1]) const {
    for (unsigned polls = 0;; ++polls) {
      int late = -1;
      this->template each_lane<Peers>(from,
                                      [&](int lane) { got[lane] = cells::load(cell_of(lane, k)); });
      this->template each_lane<Peers>(from, [&](int lane) {
        if (got[lane].word[3] == cells::nothing) { late = lane; }
      });
      if (late < 0) { break; }
      constexpr std::uint64_t empty = std::uint64_t{cells::nothing} << 32;
      if (!group().pause(polls, cell_of(late, k).upper, goal{std::uint64_t{1} << 32, empty},
                         rank_of(late))) {
        return false;
      }
    }
    bool whole = true;
    this->template each_lane<Peers>(from, [&](int lane) {
      if (got[lane].word[3] == cells::masked) {
        auto const word =
          unmask(group(), rank_of(lane), aside(rank(), place(lane, k)), cell_of(lane, k));
        whole = whole && word != 0;
        got[lane].word[3] = word;
      }
    });
    return whole;
  }

  /// The same as empty(), but with `see` waits until they are empty for whoever looks (false: the
  /// wait was ended): what this thread stores from then on is seen after that. On a GPU a load of
  /// system scope asks the memory itself, where it comes after the store before it; a fence would
  /// do too, but wait for every store of its multiprocessor.
  template <int Peers>
  [[nodiscard]] TPX_HD bool clear(rank_set from, std::size_t k, bool see) const {
    base::template empty<Peers>(from, k);
    for (unsigned polls = 0; see; ++polls) {
      bool full = false;
      this->template each_lane<Peers>(
        from, [&](int lane) { full |= cells::load(cell_of(lane, k)).word[3] != cells::nothing; });
      if (!full) { break; }
      if (!group().pause(polls, cell_at(rank(), 0).upper, goal{0}, rank())) { return false; }
    }
    return true;
  }

 private:
  using byte_ref = cuda::atomic_ref<unsigned char, cuda::thread_scope_system>;

  /// Says aside which word it was; what to store in its place.
  [[gnu::noinline]] static TPX_HD std::uint32_t mask(unsigned char& aside, std::uint32_t word) {
    byte_ref{aside}.store(word == cells::nothing ? 1 : 2, cuda::memory_order_relaxed);
    return cells::masked;
  }

  /// The data's last word; 0 if the wait for it was ended.
  [[nodiscard, gnu::noinline]] static TPX_HD std::uint32_t unmask(Group const& group, int from,
                                                                  unsigned char& aside, cell& c) {
    byte_ref const said{aside};
    unsigned char which = 0;
    // On a CPU the cell's acquire has made it visible; on a GPU it may still be on its way.
    for (unsigned polls = 0; (which = said.load(cuda::memory_order_relaxed)) == 0; ++polls) {
      if (!group.pause(polls, c.upper, goal{~0ull}, from)) { return 0; }
    }
    said.store(0, cuda::memory_order_relaxed);
    // And sees it so, as clear() does: else it might come after what the next giver says here.
    for (unsigned polls = 0; said.load(cuda::memory_order_relaxed) != 0; ++polls) {
      if (!group.pause(polls, c.upper, goal{0}, from)) { return 0; }
    }
    return which == 1 ? cells::nothing : cells::masked;
  }
};

/// The same where flags say when a packet is there (protocol/progress.hpp): packets are then stored
/// and loaded as any memory is, and the cells that they leave behind are full.
template <thread_group Group>
class laying : public lanes<Group> {
  using base = lanes<Group>;
  using base::cell_at, base::lane_at, base::place, base::rank;

 public:
  using base::base;

  TPX_HD void give(int to, std::size_t k, packet const& p) const {
    at(to, place(lane_at(to), k)) = p;
  }

  template <int Peers>
  TPX_HD void look(rank_set from, std::size_t k, packet (&got)[Peers - 1]) const {
    this->template each_lane<Peers>(from,
                                    [&](int lane) { got[lane] = at(rank(), place(lane, k)); });
  }

 private:
  [[nodiscard]] TPX_HD packet& at(int owner, std::uint32_t where) const {
    return reinterpret_cast<packet&>(cell_at(owner, where));
  }
};

}  // namespace tpx
