// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/shots.hpp>

namespace tpx {

/// A message of any number of rounds, cell by cell: each thread gives two packets, and then another
/// for each that it has taken. For collectives in which all give to all, since a rank that is given
/// nothing hears nothing of the cells that it fills. Happens-before: protocol/push.hpp.
template <packet_shots Shots>
struct rolling {
  Shots shots;
  std::uint64_t rounds;  // packets over playing threads, rounded up

  static constexpr std::string_view name = Shots::rolling_name;
  static constexpr unsigned block_threads = tpx::block_threads;
  static constexpr unsigned resident_threads =
    Shots::resident_threads > 768 && Shots::peers > 2 ? 768 : Shots::resident_threads;

  template <thread_group Group>
  TPX_HD void operator()(Group const& group) const {
    turn<Group> const t{group, shots.wiring()};
    deal const cut = deal::of(group, shots.packets());
    take_turn(
      t, rounds, 2, [&] { return shots.ready(cut); },
      [&](packet const& first, bool ok) {
        constexpr bool see = true;
        std::uint64_t given = 0;
        TPX_ROLLED
        for (std::uint64_t r = 0; ok; ++r) {
          TPX_ROLLED
          for (; given < r + 2 && cut.has(given); ++given) {
            shots.give(cells_of(shots, t, cut, given), cut, given, &first);
          }
          packet done;
          bool const folds = cut.has(r);
          if (folds) { ok = fold(shots, t, cut, r, done, see); }
          if constexpr (Shots::shots == 2) {
            bool const collects = r > 0 && cut.has(r - 1);
            if (ok && collects) { ok = collect(shots, t, cut, r - 1, see); }
            if (!collects && !folds) { break; }
          } else if (!folds) {
            break;
          }
        }
        return ok;
      });
  }
};

}  // namespace tpx
