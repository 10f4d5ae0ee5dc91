// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "call.hpp"

#include <tpx/protocol/barrier.hpp>
#include <tpx/protocol/pushed_allreduce.hpp>
#include <tpx/protocol/pushed_movement.hpp>
#include <tpx/protocol/pushed_rows.hpp>
#include <tpx/protocol/rolling.hpp>
#include <tpx/protocol/streamed.hpp>

#include <atomic>

/// Sequences of turns at the cells, as kernels that a stream runs one after the other: a rank's
/// channels start in any order, and those of the next kernel once all of the last have ended.
namespace explore {

inline constexpr std::array turn_kinds{
  kind::one_at_once,     kind::one_streamed,     kind::two_at_once,       kind::two_streamed,
  kind::scatter_at_once, kind::scatter_streamed, kind::allgather_at_once, kind::allgather_streamed,
  kind::to_all,          kind::to_one,           kind::to_all_streamed,   kind::to_one_streamed,
  kind::rows_one,        kind::rows_two,         kind::empty_turn};

inline constexpr int peers = 4;
inline constexpr std::size_t most_slices = tpx::streamed<tpx::pushed_copy<element, peers>>::slices;

/// Its steps, if it is streamed, else 0.
[[nodiscard]] constexpr unsigned steps_of(kind what) {
  switch (what) {
    case kind::two_streamed:
      return 3;
    case kind::one_streamed:
    case kind::scatter_streamed:
    case kind::allgather_streamed:
    case kind::to_all_streamed:
    case kind::to_one_streamed:
      return 2;
    default:
      return 0;
  }
}

/// A thread of a kernel of so many of the rank's channels.
class kernel_thread {
 public:
  /// `shared`: a word for each thread of the channel, if they fold values.
  kernel_thread(explorer_thread const& me, unsigned channels, std::int32_t* shared = nullptr)
      : me_{me}, channels_{channels}, shared_{shared} {}

  static constexpr unsigned tile = explorer_thread::tile;
  [[nodiscard]] unsigned thread_rank() const { return me_.thread_rank(); }
  [[nodiscard]] unsigned size() const { return me_.size(); }
  [[nodiscard]] unsigned channel() const { return me_.channel(); }
  [[nodiscard]] unsigned channels() const { return channels_; }
  [[nodiscard]] bool all(bool ok) const { return me_.all(ok); }
  [[nodiscard]] bool pause(unsigned polls, std::uint64_t& word, tpx::goal wanted, int peer) const {
    return me_.pause(polls, word, wanted, peer);
  }
  void sync() const { me_.sync(); }
  void ring(int peer) const { me_.ring(peer); }
  void mismatch(int peer, std::uint64_t signature) const { me_.mismatch(peer, signature); }

  template <unsigned Launched>
  static constexpr unsigned threads = Launched;
  [[nodiscard]] static unsigned members() { return 1; }
  [[nodiscard]] static unsigned member() { return 0; }
  void meet() const { sync(); }
  static void arrive() {}
  void await() const { sync(); }
  template <class A, unsigned M, class Op>
  void reduce(A (&values)[M], Op const& op) const {
    unsigned const many = size();
    for (A& v : values) {
      shared_[thread_rank()] = static_cast<std::int32_t>(v);
      sync();
      v = static_cast<A>(shared_[0]);
      for (unsigned t = 1; t < many; ++t) { v = op(v, static_cast<A>(shared_[t])); }
      sync();
    }
  }

 private:
  explorer_thread const& me_;
  unsigned channels_;
  std::int32_t* shared_;
};
static_assert(tpx::folding_group<kernel_thread>);

/// Not commutative: ranks in another order give another value.
struct in_order {
  element operator()(element a, element b) const {
    return static_cast<element>(static_cast<std::uint32_t>(a) * 31 + static_cast<std::uint32_t>(b));
  }
};

/// Its own inverse.
struct mixed_with_place {
  element operator()(element v, std::size_t i) const {
    return v ^ static_cast<element>(static_cast<std::uint32_t>(i) * 0x9e3779b9u);
  }
};

/// And stores of each row its sum, and its values mixed with that.
struct shown_rows {
  element* mixed;
  element* sums;
  std::size_t columns;
  element operator()(element v, std::size_t i) const { return mixed_with_place{}(v, i); }
  template <class Row>
  void row(Row const& r) const {
    element const sum = r.sum([](element v, std::size_t) { return v; });
    r.set(sums, sum);
    r.store(mixed, [&](element v, std::size_t) { return v ^ sum; });
  }
};

/// One kernel: the operands of its collective, and how it is launched.
struct turn_call {
  call data;
  unsigned channels = 1;
  std::uint64_t rounds = 0;
  std::size_t columns = 0;  // if it has rows; then by rank, as shown_rows has them:
  std::vector<element> mixed[tpx::max_ranks];
  std::vector<element> sums[tpx::max_ranks];
  std::vector<element> shared;  // a word a thread

  /// Whether each rank was shown the rows that it has in the end.
  [[nodiscard]] bool shown() const {
    for (std::size_t r = 0; columns != 0 && r < tpx::max_ranks; ++r) {
      for (std::size_t i = 0; i < data.out[r].size(); ++i) {
        std::size_t const first = i / columns * columns;
        std::uint32_t sum = 0;
        for (std::size_t c = 0; c < columns; ++c) {
          sum += static_cast<std::uint32_t>(data.out[r][first + c]);
        }
        auto const s = static_cast<element>(sum);
        if (sums[r][i / columns] != s || mixed[r][i] != (data.out[r][i] ^ s)) { return false; }
      }
    }
    return true;
  }
};

/// Draws kernels, and works out what they must give.
class turn_planner {
 public:
  turn_planner(generator& random, setting const& where) : random_{random}, where_{where} {}

  turn_call draw(kind what) {
    turn_call c;
    auto const most = static_cast<unsigned>(where_.layout.channels);
    unsigned const steps = steps_of(what);
    c.data.what = what;
    c.data.signature = random_.next();
    c.data.root = static_cast<int>(random_.below(ranks()));
    c.data.in_place = random_.below(2) == 0;
    // A streamed turn's channels, but for the conductor, are as many for each step.
    std::size_t const times = steps == 0 ? most : (most - 1) / steps + 1;
    auto const drawn = static_cast<unsigned>(random_.below(times));
    c.channels = what == kind::empty_turn ? 1 : 1 + drawn * (steps == 0 ? 1 : steps);
    c.data.arrived.assign(ranks() * most * where_.threads, 0);
    std::size_t const playing = c.channels == 1 ? 1 : c.channels - 1;
    std::size_t const moving = steps == 0 || drawn == 0 ? playing : drawn;
    std::size_t const round = moving * where_.threads * (steps == 2 ? most_slices : 1);
    bool const one_sided = what == kind::to_all || what == kind::to_one;
    c.rounds =
      what == kind::empty_turn ? 0 : random_.below((one_sided ? tpx::window_layout::areas : 9) + 1);
    bool const shares = what == kind::two_at_once || what == kind::two_streamed;
    if (what == kind::rows_one || what == kind::rows_two) {
      draw_rows(c, playing);
    } else if (c.rounds != 0) {
      std::size_t const packets = c.rounds * round - random_.below(round);
      std::size_t const all = shares ? packets * ranks() - random_.below(ranks()) : packets;
      c.data.n = 4 * all - random_.below(4);
    }
    fill(c.data);
    return c;
  }

 private:
  [[nodiscard]] std::size_t ranks() const { return static_cast<std::size_t>(where_.layout.ranks); }

  /// Rows of up to three packets for each thread, such that some are of one round.
  void draw_rows(turn_call& c, std::size_t playing) {
    std::size_t const rows = random_.below(3 * playing + 2);
    c.columns = 1 + random_.below(random_.below(2) == 0 ? 4 : 12 * where_.threads);
    c.data.n = rows * c.columns;
    std::size_t const packets = tpx::packets_of<element>(c.columns);
    std::size_t const each =
      c.data.what == kind::rows_one ? packets : (packets + ranks() - 1) / ranks();
    c.rounds = (rows + playing - 1) / playing * ((each + where_.threads - 1) / where_.threads);
    for (std::size_t r = 0; r < ranks(); ++r) {
      c.mixed[r].assign(c.data.n, untouched);
      c.sums[r].assign(rows, untouched);
    }
    c.shared.assign(c.data.arrived.size(), 0);
  }

  /// Often what an empty or a masked cell's last word looks like.
  element value() {
    switch (random_.below(8)) {
      case 0:
        return static_cast<element>(tpx::cells::nothing);
      case 1:
        return static_cast<element>(tpx::cells::masked);
      default:
        return static_cast<element>(random_.next());
    }
  }
  std::vector<element> values(std::size_t n) {
    std::vector<element> all(n);
    for (auto& v : all) { v = value(); }
    return all;
  }

  void fill(call& c) {
    switch (c.what) {
      case kind::one_at_once:
      case kind::one_streamed:
      case kind::two_at_once:
      case kind::two_streamed:
      case kind::rows_one:
      case kind::rows_two:
        reduce(c);
        break;
      case kind::scatter_at_once:
      case kind::scatter_streamed:
        scatter(c);
        break;
      case kind::allgather_at_once:
      case kind::allgather_streamed:
      case kind::to_one:
      case kind::to_one_streamed:
        gather(c);
        break;
      case kind::to_all:
      case kind::to_all_streamed:
        send(c);
        break;
      default:
        break;
    }
  }

  /// What all ranks' values at one place give, in rank order. Draws the last rank's such that the
  /// result is any value(); `at` is where it stands in the output.
  element chosen_sum(call& c, std::size_t from, std::size_t at) {
    std::uint32_t before = 0;
    for (std::size_t r = 0; r + 1 < ranks(); ++r) {
      before = before * 31 + static_cast<std::uint32_t>(c.in[r][from]);
    }
    auto const place = static_cast<std::uint32_t>(at) * 0x9e3779b9u;
    auto const sum = static_cast<std::uint32_t>(value()) ^ place;
    c.in[ranks() - 1][from] = static_cast<element>(sum - before * 31);
    return static_cast<element>(sum ^ place);
  }

  void reduce(call& c) {
    for (std::size_t r = 0; r < ranks(); ++r) { c.in[r] = values(c.n); }
    std::vector<element> want;
    for (std::size_t i = 0; i < c.n; ++i) { want.push_back(chosen_sum(c, i, i)); }
    for (std::size_t r = 0; r < ranks(); ++r) {
      c.want[r] = want;
      c.out[r] = c.in_place ? c.in[r] : std::vector<element>(c.n, untouched);
    }
  }

  /// Rank r's part begins at r n.
  void scatter(call& c) {
    for (std::size_t r = 0; r < ranks(); ++r) { c.in[r] = values(ranks() * c.n); }
    for (std::size_t r = 0; r < ranks(); ++r) {
      for (std::size_t i = 0; i < c.n; ++i) { c.want[r].push_back(chosen_sum(c, r * c.n + i, i)); }
      c.out[r].assign(c.n, untouched);
    }
  }

  void gather(call& c) {
    auto const all = values(ranks() * c.n);
    for (std::size_t r = 0; r < ranks(); ++r) {
      auto const own = all.begin() + static_cast<std::ptrdiff_t>(r * c.n);
      c.in[r].assign(own, own + static_cast<std::ptrdiff_t>(c.n));
      bool const to_one = c.what == kind::to_one || c.what == kind::to_one_streamed;
      bool const takes = !to_one || static_cast<int>(r) == c.root;
      c.out[r].assign(ranks() * c.n, untouched);
      c.want[r] = takes ? all : c.out[r];
      if (takes && c.in_place) {
        std::copy(c.in[r].begin(), c.in[r].end(),
                  c.out[r].begin() + static_cast<std::ptrdiff_t>(r * c.n));
      }
    }
  }

  void send(call& c) {
    auto const all = values(c.n);
    for (std::size_t r = 0; r < ranks(); ++r) {
      c.want[r] = all;
      c.out[r].assign(c.n, untouched);
    }
    c.out[static_cast<std::size_t>(c.root)] = all;
  }

  generator& random_;
  setting const& where_;
};

/// Carries out a kernel as one thread of it.
template <class Group>
void carry_out(turn_call& kernel, std::uint64_t signature, setting const& where, int rank,
               Group const& group) {
  auto& c = kernel.data;
  tpx::wires w{};
  std::copy(std::begin(where.windows), std::end(where.windows), std::begin(w.window));
  w.layout = where.layout;
  w.at = tpx::cell_offsets{where.layout};
  w.rank = rank;
  w.signature = signature;
  element* const out = c.out[rank].data();
  using tpx::at_once;
  using tpx::rolling;
  using tpx::streamed;
  using one = tpx::pushed_one_shot<element, in_order, mixed_with_place, peers>;
  using two = tpx::pushed_two_shot<element, in_order, mixed_with_place, peers>;
  using scatter = tpx::pushed_reduce_scatter<element, in_order, mixed_with_place, peers>;
  using copy = tpx::pushed_copy<element, peers>;
  bool const scatters = c.what == kind::scatter_at_once || c.what == kind::scatter_streamed;
  tpx::reducing<element, in_order, mixed_with_place> const job{
    w, c.in_place && !scatters ? out : c.in[rank].data(), out, c.n, {}, {}};

  auto const everybody = (tpx::rank_set{1} << where.layout.ranks) - 1;
  auto const root = tpx::rank_set{1} << c.root;
  auto const others = everybody & ~(tpx::rank_set{1} << rank);
  bool const is_root = rank == c.root;
  auto const* const own =
    c.in_place ? out + static_cast<std::size_t>(rank) * c.n : c.in[rank].data();
  copy const gather{w, own, out, c.n, c.n, others, others, !c.in_place};
  copy const to_one{w,
                    is_root ? own : c.in[rank].data(),
                    out,
                    c.n,
                    c.n,
                    is_root ? 0 : root,
                    is_root ? others : 0,
                    is_root && !c.in_place};
  copy const to_all{w, out, out, c.n, 0, is_root ? others : 0, is_root ? 0 : root, false};
  auto const rounds = kernel.rounds;
  // As many rounds as have areas of their own go either way.
  auto const at_once_or_rolling = [&](auto const& shots) {
    using kind_of = std::remove_cvref_t<decltype(shots)>;
    if (rounds > tpx::window_layout::areas || c.n % 2 == 0) {
      rolling<kind_of>{shots, rounds}(group);
    } else {
      at_once<kind_of>{shots, rounds}(group);
    }
  };
  shown_rows const shown{kernel.mixed[rank].data(), kernel.sums[rank].data(), kernel.columns};
  tpx::reducing<element, in_order, shown_rows> const row{w, job.in, out, kernel.columns, {}, shown};
  auto const by_rows = [&](auto const& shots) {
    auto const pieces = [](std::size_t n, std::size_t of) {
      return static_cast<std::uint32_t>((n + of - 1) / of);
    };
    auto const each = pieces(shots.packets(), where.threads);
    tpx::rowwise<std::remove_cvref_t<decltype(shots)>, 1>{
      shots, pieces(c.n, kernel.columns), each, pieces(shots.packets(), each),
      static_cast<std::uint32_t>(rounds)}(group);
  };
  switch (c.what) {
    case kind::rows_one:
      return by_rows(tpx::pushed_one_shot<element, in_order, shown_rows, peers>{row});
    case kind::rows_two:
      return by_rows(tpx::pushed_two_shot<element, in_order, shown_rows, peers>{row});
    case kind::one_at_once:
      return at_once_or_rolling(one{job});
    case kind::one_streamed:
      return streamed<one>{{job}, rounds}(group);
    case kind::two_at_once:
      return at_once_or_rolling(two{job});
    case kind::two_streamed:
      return streamed<two>{{job}, rounds}(group);
    case kind::scatter_at_once:
      return at_once_or_rolling(scatter{job});
    case kind::scatter_streamed:
      return streamed<scatter>{{job}, rounds}(group);
    case kind::allgather_at_once:
      return at_once_or_rolling(gather);
    case kind::allgather_streamed:
      return streamed<copy>{gather, rounds}(group);
    case kind::to_one:
      return at_once<copy>{to_one, rounds}(group);
    case kind::to_one_streamed:
      return streamed<copy>{to_one, rounds}(group);
    case kind::to_all:
      return at_once<copy>{to_all, rounds}(group);
    case kind::to_all_streamed:
      return streamed<copy>{to_all, rounds}(group);
    default:
      tpx::turn_barrier{w}(group);
  }
}

/// The end of a rank's kernel: `ended` counts its threads, in all kernels.
inline void end_kernel(explorer_thread const& me, std::uint64_t& ended, std::uint64_t wanted) {
  me.settle();
  std::atomic_ref{ended}.fetch_add(1, std::memory_order_acq_rel);
  for (unsigned polls = 0; std::atomic_ref{ended}.load(std::memory_order_acquire) < wanted;
       ++polls) {
    if (!me.pause(polls, ended, wanted, me.rank())) { return; }
  }
  (void)me.size();  // a step
}

/// Whether no cell and no byte aside is left full.
inline bool emptied(setting const& where) {
  auto const& l = where.layout;
  for (int r = 0; r < l.ranks; ++r) {
    auto const* const cells =
      reinterpret_cast<tpx::cell const*>(where.windows[r] + l.cells_offset(0));
    auto const* const asides = where.windows[r] + l.asides_offset(0);
    for (std::size_t i = 0; i < tpx::window_layout::areas * l.area_cells; ++i) {
      if (cells[i].upper >> 32 != tpx::cells::nothing || asides[i] != std::byte{0}) {
        return false;
      }
    }
  }
  return true;
}

/// At least four kernels in a row, every other of kind `what`; all else follows from the seed.
inline outcome play_turns(scheduler& s, windows& memories, kind what, std::uint64_t seed,
                          twist how) {
  generator random{seed * 32 + static_cast<std::uint64_t>(what)};
  static constexpr unsigned teams[]{1, 1, 1, 2, 3, 5};
  unsigned const threads = teams[random.below(std::size(teams))];
  auto const channels = 1 + static_cast<int>(random.below(4));
  auto ranks = 2 + static_cast<int>(random.below(3));
  while (ranks * channels * static_cast<int>(threads) > scheduler::most) { --ranks; }
  auto const playing = static_cast<std::size_t>(std::max(channels - 1, 1)) * threads;
  auto const cells = 2 * playing * most_slices * static_cast<std::size_t>(ranks - 1);
  constexpr std::size_t line = tpx::cache_line;
  setting where = memories.make(ranks, channels, threads, (cells + line - 1) / line * line);
  // A CPU's rank is one channel: a record that is never empty may be read torn by another.
  where.seen = channels == 1 && random.below(2) == 0 ? memory::host : memory::device;

  turn_planner plan{random, where};
  std::vector<turn_call> kernels;
  std::size_t const count = 4 + random.below(5);
  for (std::size_t i = 0; i < count; ++i) {
    kernels.push_back(plan.draw(
      i % 2 == 0 || how != twist::none ? what : turn_kinds[random.below(turn_kinds.size())]));
  }
  int const odd =
    how == twist::none ? -1 : static_cast<int>(random.below(static_cast<std::size_t>(ranks)));
  auto const how_to_go_on = random.below(2) == 0 ? strategy::uniform : strategy::pct;
  auto const each = static_cast<std::size_t>(channels) * threads;
  struct alignas(tpx::cache_line) counter {
    std::uint64_t value = 0;
  } ended[tpx::max_ranks];
  std::vector<std::string> late(static_cast<std::size_t>(ranks));

  auto body = [&](explorer_thread const& me) {
    auto const r = static_cast<std::size_t>(me.rank());
    auto const first = r * each + me.channel() * threads;
    for (std::size_t i = 0; i < kernels.size() && !me.stopped(); ++i) {
      if (me.rank() == odd && i == 1 && how == twist::stays_away) { return; }
      auto& k = kernels[i];
      k.data.arrived[first + me.thread_rank()] = 1;
      end_kernel(me, ended[r].value, (i + 1) * each);
      if (me.channel() >= k.channels) { continue; }
      bool const differs = me.rank() == odd && i == 1 && how == twist::another_call;
      auto const signature = k.data.signature + (differs ? 1 : 0);
      element* const shared = k.shared.empty() ? nullptr : &k.shared[first];
      carry_out(k, signature, where, me.rank(), kernel_thread{me, k.channels, shared});
      if (me.channel() != 0 || me.stopped()) { continue; }
      // The conductor's part ends once every rank's stream has come as far.
      element here = 0;
      for (auto const one : k.data.arrived) { here += one; }
      if (here != static_cast<element>(k.data.arrived.size())) {
        late[r] = "rank " + std::to_string(r) + " ended call " + std::to_string(i) +
                  " before another had come to it";
      }
    }
    me.settle();
  };
  outcome result = s.run(where, how_to_go_on, random.next(), body);
  if (result.kind != verdict::good) { return result; }
  for (auto const& one : late) { result.what += one; }
  for (std::size_t i = 0; i < kernels.size() && result.what.empty(); ++i) {
    auto const differs = kernels[i].data.difference(ranks);
    if (!differs.empty()) { result.what = "call " + std::to_string(i) + ", " + differs; }
    if (differs.empty() && !kernels[i].shown()) {
      result.what = "call " + std::to_string(i) + " was shown other rows";
    }
  }
  if (result.what.empty() && !emptied(where)) { result.what = "a cell was left full"; }
  if (!result.what.empty()) {
    result.kind = verdict::wrong;
    result.what = "wrong value: " + result.what;
  }
  return result;
}

/// As flag_variants(), of turns at the cells.
inline std::vector<variant> turn_variants(twist how = twist::none) {
  std::vector<variant> v;
  for (auto const what : turn_kinds) { v.push_back({"Cells", what, play_turns, how}); }
  return v;
}

}  // namespace explore
