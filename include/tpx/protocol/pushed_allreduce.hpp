// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/pushed_fold.hpp>

namespace tpx {

/// Each rank folds a share, in rank order, and gives it to all: two hops, 2(n-1)/n times the bytes.
///
/// The packets are cut into n shares as long as each other (the last ones may lack some); a
/// thread's index counts packets of a share, and a thread does all ranks' shares at its index.
template <class T, class Op, class Epilogue, int Peers>
struct pushed_two_shot {
  reducing<T, Op, Epilogue> job;

  using value_type = T;

  static constexpr std::string_view name = "two-shot";
  static constexpr std::string_view streamed_name = "two-shot, streamed";
  static constexpr std::string_view rolling_name = "two-shot, rolling";
  static constexpr int shots = 2;
  static constexpr int peers = Peers;
  static constexpr unsigned resident_threads = Peers <= 4 ? 768 : 256;

  [[nodiscard]] TPX_HD wires const& wiring() const { return job.w; }
  [[nodiscard]] TPX_HD rank_set gives() const { return others(job.w); }
  [[nodiscard]] TPX_HD rank_set takes() const { return others(job.w); }

  /// Of each rank's share.
  [[nodiscard]] TPX_HD std::size_t packets() const {
    auto const ranks = static_cast<std::size_t>(job.w.size());
    return (packets_of<T>(job.n) + ranks - 1) / ranks;
  }

  [[nodiscard]] TPX_HD packet ready(deal const&) const { return {}; }

  /// Of rank `to`'s share.
  [[nodiscard]] TPX_HD packet source(int to, deal const& cut, std::uint64_t round) const {
    return read_packet(job.in + cut.first, job.n, of_rank(to, cut, round));
  }

  template <class Lanes>
  TPX_HD void give(Lanes const& lanes, deal const& cut, std::uint64_t round, packet const*) const {
    TPX_UNROLL
    for (int d = 1; d < Peers; ++d) {
      if (int const to = next_rank(job.w, d); to >= 0) {
        lanes.give(to, cut.me, source(to, cut, round));
      }
    }
  }

  using own_values = typename reducing<T, Op, Epilogue>::own_values;
  [[nodiscard]] TPX_HD own_values own(deal const& cut, std::uint64_t round) const {
    return job.own(source(job.w.rank, cut, round), cut.first, of_rank(job.w.rank, cut, round));
  }

  /// Folds the packet of this rank's share, and gives it.
  template <class Lanes>
  TPX_HD packet finish(Lanes const& lanes, deal const& cut, std::uint64_t round,
                       own_values const& own, packet const (&got)[Peers - 1]) const {
    std::size_t const mine = of_rank(job.w.rank, cut, round);
    packet const done = job.template folded<Peers>(own, got, cut.first, mine);
    TPX_UNROLL
    for (int d = 1; d < Peers; ++d) {
      if (int const to = next_rank(job.w, d); to >= 0) {
        lanes.give(to, cut.threads + cut.me, done);
      }
    }
    write_packet(job.out + cut.first, job.n, mine, done);
    return done;
  }

  TPX_HD void keep(deal const& cut, std::uint64_t round, packet const (&got)[Peers - 1]) const {
    TPX_UNROLL
    for (int lane = 0; lane + 1 < Peers; ++lane) {
      int const r = rank_of(job.w, lane);
      if (r < job.w.size()) {
        write_packet(job.out + cut.first, job.n, of_rank(r, cut, round), got[lane]);
      }
    }
  }

 private:
  [[nodiscard]] static TPX_HD std::size_t of_rank(int rank, deal const& cut, std::uint64_t round) {
    return static_cast<std::uint32_t>(rank) * cut.packets + cut.packet(round);
  }
};

}  // namespace tpx
