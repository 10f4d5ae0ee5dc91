// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/turn.hpp>
#include <tpx/runtime/flag.hpp>

namespace tpx {

/// How far a rank's channels are in a streamed turn, told to other ranks by flags, one for each
/// step, reader and `place`, which counts channels that do the same step.
///
/// `given` r: its first shots of r rounds lie in the reader's window. `taken` r: it has read the
/// reader's first shots of r rounds, and where there are second shots, its own lie in the reader's
/// window. `collected` r: it has read the reader's second shots of r rounds.
///
/// Happens-before. All threads of the channel that did a step meet; then one for each reader raises
/// its flag with release, and all that ask meet after one has acquired it: so what a flag tells of
/// is visible to all that asked, whichever threads did it.
template <thread_group Group>
class progress {
 public:
  using step = window_layout::step;

  TPX_HD progress(turn<Group> const& t, wires const& w, unsigned place)
      : t_{t}, w_{w}, place_{place} {}

  /// Tells each of `whom` that this channel, whose threads have met, has done a step in so many
  /// rounds.
  TPX_HD void tell(rank_set whom, step s, std::uint64_t rounds) const {
    TPX_ROLLED
    for (int r = static_cast<int>(t_.group().thread_rank()); r < w_.size();
         r += static_cast<int>(t_.group().size())) {
      if ((whom >> r & 1u) != 0) { signal(t_.group(), mark(r, s, w_.rank), t_.tick(rounds), r); }
    }
  }

  /// Waits until each of `whom` has done so; all threads meet. False: the wait was ended. The last
  /// threads wait, since the first ones may still be telling.
  [[nodiscard]] TPX_HD bool until(rank_set whom, step s, std::uint64_t rounds) const {
    bool ok = true;
    int const many = static_cast<int>(t_.group().size());
    TPX_ROLLED
    for (int r = many - 1 - static_cast<int>(t_.group().thread_rank()); ok && r < w_.size();
         r += many) {
      if ((whom >> r & 1u) != 0) { ok = wait(t_.group(), mark(w_.rank, s, r), t_.tick(rounds), r); }
    }
    return t_.group().all(ok);
  }

 private:
  [[nodiscard]] TPX_HD std::uint64_t& mark(int owner, step s, int peer) const {
    auto* const marks = reinterpret_cast<std::uint64_t*>(w_.window[owner] + w_.at.marks);
    return marks[w_.layout.mark_place(static_cast<int>(place_), s, peer)];
  }

  turn<Group> const& t_;
  wires const& w_;
  unsigned place_;
};

}  // namespace tpx
