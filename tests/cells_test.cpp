// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The protocols over cells, which GPUs use, on CPU threads: where ThreadSanitizer sees them.
#include "world.hpp"

#include <tpx/protocol/barrier.hpp>
#include <tpx/protocol/pushed_allreduce.hpp>
#include <tpx/protocol/pushed_movement.hpp>
#include <tpx/protocol/pushed_rows.hpp>
#include <tpx/protocol/rolling.hpp>
#include <tpx/protocol/streamed.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>

namespace {

using namespace world;

/// All ranks' windows with cells, on threads, and what a rank needs to run protocols on them.
class bench {
 public:
  explicit bench(int n)
      : layout_{.ranks = n, .channels = 1, .slot_bytes = 64, .area_cells = area_cells},
        memory_((layout_.bytes() * static_cast<std::size_t>(n)) / sizeof(chunk) + 1),
        ledgers_(static_cast<std::size_t>(n)) {
    for (int r = 0; r < n; ++r) {
      std::memset(window(r) + layout_.cells_offset(0), cells::empty_byte,
                  window_layout::areas * area_cells * sizeof(cell));
    }
  }

  /// Ranks hear of each other's calls by their turns alone, not by the ledger that they share.
  void keep_ledgers_apart() { apart_ = true; }

  /// body(rank, run) on every rank: run(call, make) carries out the protocol make(wires) as a call.
  template <class Body>
  void operator()(Body body) {
    on_ranks(layout_.ranks, [&](group& g) {
      wires w{};
      w.layout = layout_;
      w.at = cell_offsets{layout_};
      w.rank = g.rank();
      for (int p = 0; p < layout_.ranks; ++p) { w.window[p] = window(p); }
      host_waiter waiter{g.me(), ledgers_[apart_ ? static_cast<std::size_t>(g.rank()) : 0]};
      body(g.rank(), [&](call_signature call, auto make) {
        waiter.begin(call);
        w.signature = call.pack();
        make(w)(host_thread{&waiter});
        waiter.end();
      });
    });
  }

  /// Whether every cell is empty and no byte aside is left.
  [[nodiscard]] bool clean() {
    for (int r = 0; r < layout_.ranks; ++r) {
      auto* const first = reinterpret_cast<cell*>(window(r) + layout_.cells_offset(0));
      auto const* const asides = window(r) + layout_.asides_offset(0);
      for (std::size_t i = 0; i < window_layout::areas * area_cells; ++i) {
        if (cells::load(first[i]).word[3] != cells::nothing) { return false; }
        if (asides[i] != std::byte{0}) { return false; }
      }
    }
    return true;
  }

 private:
  static constexpr std::size_t area_cells = 64;
  struct alignas(cache_line) chunk {
    std::byte bytes[cache_line] = {};
  };

  std::byte* window(int r) {
    return reinterpret_cast<std::byte*>(memory_.data()) +
           layout_.bytes() * static_cast<std::size_t>(r);
  }

  window_layout layout_;
  std::vector<chunk> memory_;
  std::vector<ledger> ledgers_;
  bool apart_ = false;
};

/// The same for everybody who asks with the same words.
std::uint64_t drawn(std::uint64_t a, std::uint64_t b, std::uint64_t c = 0) {
  std::uint64_t h = a * 0x9e3779b97f4a7c15u + b * 0xbf58476d1ce4e5b9u + c + 1;
  for (int i = 0; i < 2; ++i) { h = (h ^ (h >> 31)) * 0x94d049bb133111ebu; }
  return h ^ (h >> 29);
}

/// Rank `rank`'s element i: of each four packets, one looks like an empty or a masked cell on every
/// rank, and one does so once it is summed up.
template <class T>
T awkward(int rank, int n, std::size_t i, unsigned salt) {
  std::uint64_t const masks[]{0x8b8b8b8b8b8b8b8b, 0x8b8b8b8a8b8b8b8a};
  auto const packet = i / per_packet<T>;
  auto const kind = drawn(packet, salt);
  if (kind % 4 > 1) { return value<T>(rank, i, salt); }
  T v{};
  if (kind % 4 == 0 || static_cast<int>(kind / 8 % static_cast<unsigned>(n)) == rank) {
    auto const* const mask = reinterpret_cast<char const*>(&masks[kind / 4 % 2]);
    std::memcpy(static_cast<void*>(&v), mask + i * sizeof(T) % 4,
                std::min<std::size_t>(sizeof(T), 4));
    if (sizeof(T) > 4) { std::memcpy(static_cast<void*>(&v), mask, sizeof(T)); }
  }
  return v;
}

/// Adds what depends on the element's place in the output.
struct maybe_place {
  bool on;
  template <class A>
  A operator()(A v, std::size_t i) const {
    return on ? Sum{}(v, static_cast<A>(i % 5)) : v;
  }
};

/// And stores what it is shown of each row, and how long that is.
template <class T>
struct row_copies {
  maybe_place place;
  T* seen;
  accumulate_t<T>* lengths;
  std::size_t columns;
  template <class A>
  A operator()(A v, std::size_t i) const {
    return place(v, i);
  }
  template <class Row>
  void row(Row const& r) const {
    r.set(lengths, r.sum([](auto v, std::size_t) { return static_cast<decltype(v)>(1); }));
    r.store(seen, [](auto v, std::size_t) { return v; });
  }
};

enum class move {
  one_shot,
  two_shot,
  rows_one,
  rows_two,
  scatter,
  allgather,
  to_all,
  to_one,
  barrier,
  moves
};

/// One turn of a sequence, and what it must give.
template <class T, int Peers>
class step {
 public:
  step(int n, unsigned salt) : n_{n}, salt_{salt} {
    auto const of = [&](std::uint64_t many, std::uint64_t what) {
      return static_cast<std::size_t>(drawn(salt, what, many) % many);
    };
    what_ = static_cast<move>(of(static_cast<std::uint64_t>(move::moves), 1));
    if (what_ == move::rows_one || what_ == move::rows_two) {
      columns_ = of(5 * per_packet<T>, 12) + 1;
      size_ = of(5, 13) * columns_;
    }
    bool const streams = what_ != move::barrier && of(2, 2) == 0;
    std::size_t const rounds = streams ? of(40, 3) : of(window_layout::areas, 4) + 1;
    auto const shares = what_ == move::two_shot ? static_cast<std::size_t>(n) : 1;
    auto const packets = rounds * shares - (rounds == 0 ? 0 : of(shares, 5));
    if (columns_ == 0) { size_ = rounds == 0 ? 0 : packets * per_packet<T> - of(per_packet<T>, 6); }
    rounds_ = rounds;
    streams_ = streams;
    root_ = static_cast<int>(of(static_cast<std::uint64_t>(n), 7));
    in_place_ = of(2, 8) == 0;
    place_ = {of(2, 9) == 0};
    in_offset_ = of(5, 10);
    out_offset_ = of(3, 11);
  }

  [[nodiscard]] call_signature call() const {
    return {collective::allreduce, dtype_of<T>(), static_cast<std::uint16_t>(what_), root_, size_};
  }

  /// Carries it out and says what was wrong, or "".
  template <class Run>
  [[nodiscard]] std::string operator()(int rank, Run& run) const {
    auto const n = static_cast<std::size_t>(n_);
    auto const me = static_cast<std::size_t>(rank);
    bool const gathers = what_ == move::allgather || what_ == move::to_one;
    bool const scatters = what_ == move::scatter;
    std::size_t const rows = columns_ == 0 ? 0 : size_ / columns_;
    guarded<T> seen{columns_ == 0 ? 0 : size_, out_offset_};
    std::vector<accumulate_t<T>> lengths(rows);
    guarded<T> in{scatters ? n * size_ : size_, in_offset_};
    guarded<T> out{gathers ? n * size_ : size_, out_offset_};
    for (std::size_t i = 0; i < in.span().size(); ++i) { in.span()[i] = given(rank, i); }
    if (what_ == move::to_all && rank == root_) {
      std::copy(in.span().begin(), in.span().end(), out.span().begin());
    }
    T* to = out.span().data();
    T const* from = in.span().data();
    if (in_place_ && what_ <= move::rows_two) { to = in.span().data(); }
    bool const takes = what_ != move::to_one || rank == root_;
    if (in_place_ && gathers && takes) {
      std::copy(in.span().begin(), in.span().end(), to + me * size_);
      from = to + me * size_;
    }
    row_copies<T> const copies{place_, seen.span().data(), lengths.data(), columns_};
    run(call(), [&](wires const& w) { return turn_of{*this, w, from, to, copies}; });
    for (std::size_t i = 0; i < rows; ++i) {
      auto const r = i * columns_;
      bool const same = std::memcmp(to + r, copies.seen + r, columns_ * sizeof(T)) == 0;
      if (!same || lengths[i] != static_cast<accumulate_t<T>>(columns_)) {
        return "row " + std::to_string(i) + " of " + std::to_string(rows) + " of " +
               std::to_string(columns_) + " was shown otherwise";
      }
    }
    if (!seen.intact()) { return "wrote beyond a row"; }

    for (std::size_t i = 0; i < out.span().size(); ++i) {
      T poison;
      std::memset(static_cast<void*>(&poison), 0xa5, sizeof(T));
      T const want = takes ? wanted(rank, i) : poison;
      if (what_ != move::barrier && !same_bits(to[i], want)) {
        return "turn " + std::to_string(static_cast<int>(what_)) + " of " + std::to_string(size_) +
               " in " + std::to_string(rounds_) + " rounds, element " + std::to_string(i) +
               " on rank " + std::to_string(rank) + " of " + std::to_string(n_);
      }
    }
    return in.intact() && out.intact() ? "" : "wrote beyond the output";
  }

 private:
  /// The protocol, chosen when it runs.
  struct turn_of {
    step const& s;
    wires w;
    T const* in;
    T* out;
    row_copies<T> copies;

    void operator()(host_thread const& me) const {
      auto const by_rows = [&](auto const& shots) {
        auto const rows = static_cast<std::uint32_t>(s.size_ / s.columns_);
        auto const packets = static_cast<std::uint32_t>(shots.packets());
        if (rows == 0) { return; }
        rowwise<std::remove_cvref_t<decltype(shots)>, 1>{shots, rows, packets, 1,
                                                         rows * packets}(me);
      };
      reducing<T, Sum, row_copies<T>> const row{w, in, out, s.columns_, {}, copies};
      auto const go = [&](auto const& shots) {
        using kind = std::remove_cvref_t<decltype(shots)>;
        if (s.streams_ && s.size_ % 2 == 0 && shots.gives() == shots.takes()) {
          rolling<kind>{shots, shots.packets()}(me);
        } else if (s.streams_) {
          constexpr std::size_t each = streamed<kind>::slices;
          streamed<kind>{shots, (shots.packets() + each - 1) / each}(me);
        } else {
          at_once<kind>{shots, s.rounds_}(me);
        }
      };
      reducing<T, Sum, maybe_place> const job{w, in, out, s.size_, {}, s.place_};
      auto const root = rank_set{1} << s.root_;
      auto const others = ((rank_set{1} << s.n_) - 1) & ~(rank_set{1} << w.rank);
      bool const is_root = w.rank == s.root_;
      switch (s.what_) {
        case move::one_shot:
          return go(pushed_one_shot<T, Sum, maybe_place, Peers>{job});
        case move::two_shot:
          return go(pushed_two_shot<T, Sum, maybe_place, Peers>{job});
        case move::rows_one:
          return by_rows(pushed_one_shot<T, Sum, row_copies<T>, Peers>{row});
        case move::rows_two:
          return by_rows(pushed_two_shot<T, Sum, row_copies<T>, Peers>{row});
        case move::scatter:
          return go(pushed_reduce_scatter<T, Sum, maybe_place, Peers>{job});
        case move::allgather:
          return go(
            pushed_copy<T, Peers>{w, in, out, s.size_, s.size_, others, others, !s.in_place_});
        case move::to_all:
          return go(pushed_copy<T, Peers>{w, out, out, s.size_, 0, is_root ? others : 0,
                                          is_root ? 0 : root, false});
        case move::to_one:
          return go(pushed_copy<T, Peers>{w, in, out, s.size_, s.size_, is_root ? 0 : root,
                                          is_root ? others : 0, is_root && !s.in_place_});
        default:
          turn_barrier{w}(me);
      }
    }
  };

  [[nodiscard]] T given(int rank, std::size_t i) const { return awkward<T>(rank, n_, i, salt_); }

  [[nodiscard]] T wanted(int rank, std::size_t i) const {
    switch (what_) {
      case move::one_shot:
      case move::two_shot:
      case move::rows_one:
      case move::rows_two:
        return sum_at(i, i);
      case move::scatter:
        return sum_at(static_cast<std::size_t>(rank) * size_ + i, i);
      case move::to_all:
        return given(root_, i);
      default:
        return given(static_cast<int>(i / size_), i % size_);
    }
  }
  [[nodiscard]] T sum_at(std::size_t from, std::size_t at) const {
    auto sum = static_cast<accumulate_t<T>>(given(0, from));
    for (int r = 1; r < n_; ++r) { sum = Sum{}(sum, static_cast<accumulate_t<T>>(given(r, from))); }
    return static_cast<T>(place_(sum, at));
  }

  int n_;
  unsigned salt_;
  move what_;
  std::size_t columns_ = 0;  // if it has rows
  std::size_t size_;         // elements; for scatter, of each part
  std::uint64_t rounds_;
  bool streams_;
  int root_;
  bool in_place_;
  maybe_place place_;
  std::size_t in_offset_;
  std::size_t out_offset_;
};

/// So many turns in a row, of all kinds.
template <class T, int Peers>
void sequence(int n, unsigned turns, notes& found) {
  bench b{n};
  b([&](int rank, auto run) {
    for (unsigned i = 0; i < turns; ++i) {
      step<T, Peers> const one{n, static_cast<unsigned>(n) * 1000 + i};
      auto const wrong = one(rank, run);
      if (!wrong.empty()) { return found.add(wrong); }
    }
  });
  if (!b.clean()) { found.add("a cell was left full on " + std::to_string(n) + " ranks"); }
}

/// Of a size that divides no packet.
struct odd_sized {
  std::uint8_t bytes[12];
};

}  // namespace

TEMPLATE_TEST_CASE("turns of all kinds in a row give each rank the oracle's values", "[cells]",
                   float, float16, bfloat16, double, std::int32_t, std::int8_t) {
  notes found;
  for (int n = 1; n <= 8; ++n) { sequence<TestType, 8>(n, sanitized ? 200 : 1000, found); }
  REQUIRE(found.all() == "");
}

TEST_CASE("turns give the oracle's values whatever number of ranks they are made for", "[cells]") {
  notes found;
  for (int n = 1; n <= 2; ++n) { sequence<float, 2>(n, 60, found); }
  for (int n = 1; n <= 4; ++n) { sequence<float, 4>(n, 60, found); }
  for (int n : {3, 9, 16}) { sequence<float, 16>(n, 20, found); }
  REQUIRE(found.all() == "");
}

TEMPLATE_TEST_CASE("a message's packets hold its elements and then zeros, wherever it lies",
                   "[cells]", float, float16, bfloat16, double, std::int32_t, std::int8_t,
                   odd_sized) {
  using T = TestType;
  constexpr unsigned many = per_packet<T>;
  for (std::size_t n = 1; n <= 2 * many + 1; ++n) {
    for (std::size_t offset = 0; offset < 5; ++offset) {
      guarded<T> from{n, offset};
      guarded<T> to{n, 4 - offset};
      std::vector<unsigned char> bytes;
      for (std::size_t i = 0; i < n * sizeof(T); ++i) {
        bytes.push_back(static_cast<unsigned char>(drawn(i, n)));
      }
      std::memcpy(static_cast<void*>(from.span().data()), bytes.data(), bytes.size());
      for (std::size_t k = 0; k < packets_of<T>(n); ++k) {
        packet const p = read_packet(from.span().data(), n, k);
        std::size_t const first = k * many * sizeof(T);
        unsigned char want[16] = {};
        auto const length = std::min(bytes.size() - first, many * sizeof(T));
        std::memcpy(want, bytes.data() + first, length);
        REQUIRE(std::memcmp(&p, want, sizeof p) == 0);
        write_packet(to.span().data(), n, k, p);
      }
      REQUIRE(std::memcmp(to.span().data(), bytes.data(), bytes.size()) == 0);
      REQUIRE(to.intact());
    }
  }
}

namespace {

/// What each rank ended with where rank `culprit` makes call `odd` and the others make `even`.
struct ending {
  errc code = errc::ok;
  int peer = -1;
  std::string what;
};

template <class T>
void make_turn(wires const& w, call_signature call, host_thread const& me) {
  std::vector<T> x(call.count, T{});
  reducing<T, Sum, no_epilogue> const job{w, x.data(), x.data(), x.size(), {}, {}};
  if (call.kind == collective::barrier) {
    turn_barrier{w}(me);
  } else if (packets_of<T>(x.size()) <= window_layout::areas) {
    using shots = pushed_one_shot<T, Sum, no_epilogue, 4>;
    at_once<shots>{{job}, packets_of<T>(x.size())}(me);
  } else {
    pushed_two_shot<T, Sum, no_epilogue, 4> const two{job};
    using kind = streamed<std::remove_const_t<decltype(two)>>;
    kind{two, (two.packets() + kind::slices - 1) / kind::slices}(me);
  }
}

std::vector<ending> endings(bench& b, int n, int culprit, call_signature even, call_signature odd) {
  std::vector<ending> all(static_cast<std::size_t>(n));
  try {
    b([&](int rank, auto run) {
      call_signature const good{collective::allreduce, dtype::float32, Sum::code, 0, 9};
      try {
        for (int i = 0; i < 5; ++i) {
          auto const call = i != 2 ? good : rank == culprit ? odd : even;
          run(call, [&](wires const& w) {
            return [&w, call](host_thread const& me) {
              call.type == dtype::float64 ? make_turn<double>(w, call, me)
                                          : make_turn<float>(w, call, me);
            };
          });
        }
      } catch (error const& e) {
        all[static_cast<std::size_t>(rank)] = {e.code(), e.peer(), e.what()};
        throw;
      }
    });
  } catch (error const&) {}
  return all;
}

/// "" if every rank ended with a mismatch whose message holds both calls and, if that can be told,
/// the culprit.
std::string told(std::vector<ending> const& all, int culprit, std::string const& even,
                 std::string const& odd) {
  std::string wrong;
  for (auto const& one : all) {
    bool const named = all.size() == 2 ? one.peer >= 0 : one.peer == culprit;
    bool const said =
      one.what.find(even) != std::string::npos && one.what.find(odd) != std::string::npos;
    if (one.code != errc::mismatch || !named || !said) {
      wrong += even + " against " + odd + " on " + std::to_string(all.size()) + " ranks, culprit " +
               std::to_string(culprit) + ": " + std::string{name(one.code)} + ", peer " +
               std::to_string(one.peer) + ", " + one.what + "\n";
    }
  }
  return wrong;
}

constexpr call_signature small{collective::allreduce, dtype::float32, Sum::code, 0, 13};

}  // namespace

TEST_CASE("a rank whose turn is another call is named on every rank, with both calls", "[cells]") {
  call_signature const others[]{
    {collective::allreduce, dtype::float32, Sum::code, 0, 12},
    {collective::allreduce, dtype::float32, Sum::code, 0, 900},
    {collective::allreduce, dtype::float64, Sum::code, 0, 13},
    {collective::allreduce, dtype::float32, Max::code, 0, 13},
    {collective::barrier},
  };
  std::string wrong;
  for (auto const& other : others) {
    for (int n = 2; n <= 4; ++n) {
      for (int culprit = 0; culprit < n; ++culprit) {
        bench b{n};
        wrong +=
          told(endings(b, n, culprit, small, other), culprit, to_string(small), to_string(other));
      }
    }
  }
  REQUIRE(wrong == "");
}

TEST_CASE("turns alone tell that another rank's call differs", "[cells]") {
  auto other = small;
  other.op = Max::code;  // the data are as many and come as they must
  for (int culprit = 0; culprit < 2; ++culprit) {
    bench b{2};
    b.keep_ledgers_apart();
    REQUIRE(told(endings(b, 2, culprit, small, other), culprit, to_string(small),
                 to_string(other)) == "");
  }
}
