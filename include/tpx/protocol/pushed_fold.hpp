// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/reducing.hpp>
#include <tpx/protocol/shots.hpp>

#include <string_view>

namespace tpx {

/// Every rank gives each other values and folds what it is given with its own, in rank order: one
/// hop. An all-reduce gives everybody the same, n-1 times the bytes; a reduce-scatter gives each
/// rank the part that is to be its own. Peers: there are at most so many ranks.
template <class T, class Op, class Epilogue, int Peers, bool Scatters>
struct pushed_fold {
  reducing<T, Op, Epilogue> job;  // in: (n), or to scatter (ranks, n); out: (n)

  using value_type = T;

  static constexpr std::string_view name = Scatters ? "push" : "one-shot";
  static constexpr std::string_view streamed_name =
    Scatters ? "push, streamed" : "one-shot, streamed";
  static constexpr std::string_view rolling_name = Scatters ? "push, rolling" : "one-shot, rolling";
  static constexpr int shots = 1;
  static constexpr int peers = Peers;
  static constexpr unsigned resident_threads = Peers <= 4 ? 1024 : Peers <= 8 ? 512 : 256;

  [[nodiscard]] TPX_HD wires const& wiring() const { return job.w; }
  [[nodiscard]] TPX_HD std::size_t packets() const { return packets_of<T>(job.n); }
  [[nodiscard]] TPX_HD rank_set gives() const { return others(job.w); }
  [[nodiscard]] TPX_HD rank_set takes() const { return others(job.w); }

  [[nodiscard]] TPX_HD packet ready(deal const& cut) const {
    return !Scatters && cut.has(0) ? source(0, cut, 0) : packet{};
  }

  [[nodiscard]] TPX_HD packet source(int to, deal const& cut, std::uint64_t round) const {
    std::size_t const first = Scatters ? static_cast<std::size_t>(to) * job.n : cut.first;
    return read_packet(job.in + first, job.n, cut.packet(round));
  }

  template <class Lanes>
  TPX_HD void give(Lanes const& lanes, deal const& cut, std::uint64_t round,
                   packet const* first) const {
    packet own{};
    if constexpr (!Scatters) {
      own = round == 0 && first != nullptr ? *first : source(0, cut, round);
    }
    TPX_UNROLL
    for (int d = 1; d < Peers; ++d) {
      if (int const to = next_rank(job.w, d); to >= 0) {
        lanes.give(to, cut.me, Scatters ? source(to, cut, round) : own);
      }
    }
  }

  using own_values = typename reducing<T, Op, Epilogue>::own_values;
  [[nodiscard]] TPX_HD own_values own(deal const& cut, std::uint64_t round) const {
    return job.own(source(job.w.rank, cut, round), cut.first, cut.packet(round));
  }

  template <class Lanes>
  TPX_HD packet finish(Lanes const&, deal const& cut, std::uint64_t round, own_values const& own,
                       packet const (&got)[Peers - 1]) const {
    std::size_t const k = cut.packet(round);
    packet const done = job.template folded<Peers>(own, got, cut.first, k);
    write_packet(job.out + cut.first, job.n, k, done);
    return done;
  }
};

template <class T, class Op, class Epilogue, int Peers>
using pushed_one_shot = pushed_fold<T, Op, Epilogue, Peers, false>;
template <class T, class Op, class Epilogue, int Peers>
using pushed_reduce_scatter = pushed_fold<T, Op, Epilogue, Peers, true>;

}  // namespace tpx
