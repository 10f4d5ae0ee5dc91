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
  static constexpr int shots = 2;
  static constexpr unsigned resident_threads = Peers <= 4 ? 768 : 512;

  [[nodiscard]] TPX_HD wires const& wiring() const { return job.w; }

  /// Of each rank's share.
  [[nodiscard]] TPX_HD std::size_t packets() const {
    auto const ranks = static_cast<std::size_t>(job.w.size());
    return (packets_of<T>(job.n) + ranks - 1) / ranks;
  }

  [[nodiscard]] TPX_HD packet ready(deal const&) const { return {}; }

  /// The first shot: to each rank the packet of its share.
  template <class Group>
  TPX_HD void give(turn<Group> const& t, deal const& cut, std::uint64_t round,
                   packet const*) const {
    pushing<Group> const lanes{t, job.w, round, 2 * cut.threads};
    TPX_UNROLL
    for (int d = 1; d < Peers; ++d) {
      if (int const to = next_rank(job.w, d); to >= 0) {
        lanes.give(to, cut.me, read_packet(job.in + cut.first, job.n, of_rank(to, cut, round)));
      }
    }
  }

  /// Folds the packet of this rank's share; the second shot.
  template <class Group>
  [[nodiscard]] TPX_HD bool fold(turn<Group> const& t, deal const& cut, std::uint64_t round) const {
    pushing<Group> const lanes{t, job.w, round, 2 * cut.threads};
    std::size_t const mine = of_rank(job.w.rank, cut, round);
    packet const own = read_packet(job.in + cut.first, job.n, mine);
    packet got[Peers] = {};
    if (!lanes.take(t.others(), cut.me, got)) { return false; }
    packet const done = job.folded(own, got, cut.first, mine);
    TPX_UNROLL
    for (int d = 1; d < Peers; ++d) {
      if (int const to = next_rank(job.w, d); to >= 0) {
        lanes.give(to, cut.threads + cut.me, done);
      }
    }
    write_packet(job.out + cut.first, job.n, mine, done);
    return true;
  }

  template <class Group>
  [[nodiscard]] TPX_HD bool collect(turn<Group> const& t, deal const& cut,
                                    std::uint64_t round) const {
    pushing<Group> const lanes{t, job.w, round, 2 * cut.threads};
    packet got[Peers] = {};
    if (!lanes.take(t.others(), cut.threads + cut.me, got)) { return false; }
    TPX_UNROLL
    for (int r = 0; r < Peers; ++r) {
      if ((t.others() >> r & 1u) != 0) {
        write_packet(job.out + cut.first, job.n, of_rank(r, cut, round), got[r]);
      }
    }
    return true;
  }

  template <class Group>
  [[nodiscard]] TPX_HD bool clear(turn<Group> const& t, deal const& cut, std::uint64_t round,
                                  int shot, bool see) const {
    pushing<Group> const lanes{t, job.w, round, 2 * cut.threads};
    std::size_t const k = shot == 1 ? cut.me : cut.threads + cut.me;
    return lanes.template clear<Peers>(t.others(), k, see);
  }

 private:
  [[nodiscard]] static TPX_HD std::size_t of_rank(int rank, deal const& cut, std::uint64_t round) {
    return static_cast<std::size_t>(rank) * cut.packets + cut.packet(round);
  }
};

}  // namespace tpx
