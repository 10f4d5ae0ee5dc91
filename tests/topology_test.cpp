// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/config.hpp>
#include <tpx/topology/all_pairs.hpp>
#include <tpx/topology/ring.hpp>
#include <tpx/topology/topology.hpp>
#include <tpx/topology/tree.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <string>
#include <vector>

using tpx::AllPairs;
using tpx::Auto;
using tpx::max_ranks;
using tpx::Ring;
using tpx::Tree;

namespace {

/// Whether f(n, root) holds for every world size up to `most`, and every root.
template <class F>
constexpr bool everywhere(F f, int most = max_ranks) {
  for (int n = 1; n <= most; ++n) {
    for (int root = 0; root < n; ++root) {
      if (!f(n, root)) { return false; }
    }
  }
  return true;
}

/// Hops from a rank to the root; more than n if it never gets there.
template <class Topology>
constexpr int hops(int rank, int root, int n) {
  int count = 0;
  for (int r = rank; r != root && count <= n; ++count) {
    r = Topology::parent(r, root, n);
    if (r < 0 || r >= n) { return n + 1; }
  }
  return count;
}

/// The root alone has no parent, and all others' parents lead to it.
template <class Topology>
consteval bool is_a_tree() {
  return everywhere([](int n, int root) {
    for (int r = 0; r < n; ++r) {
      if ((Topology::parent(r, root, n) == -1) != (r == root)) { return false; }
      if (hops<Topology>(r, root, n) > n) { return false; }
    }
    return true;
  });
}
static_assert(is_a_tree<AllPairs>() && is_a_tree<Auto>() && is_a_tree<Ring>() && is_a_tree<Tree>());

/// children() is what parent() says, turned round, and names nobody who is not there.
template <class Topology>
consteval bool children_are_the_inverse() {
  return everywhere([](int n, int root) {
    for (int r = 0; r < n; ++r) {
      auto const kids = tpx::children<Topology>(r, root, n);
      if (kids >> n != 0) { return false; }
      for (int c = 0; c < n; ++c) {
        if (((kids >> c & 1u) != 0) != (Topology::parent(c, root, n) == r)) { return false; }
      }
    }
    return true;
  });
}
static_assert(children_are_the_inverse<AllPairs>() && children_are_the_inverse<Auto>() &&
              children_are_the_inverse<Ring>() && children_are_the_inverse<Tree>());

/// on_path() holds for exactly as many ranks as the way has, both ends with them, and a rank is on
/// the way if the way from the source to it and from it to the root are together as long.
template <class Topology>
constexpr bool paths_are_whole(int most) {
  return everywhere(
    [](int n, int root) {
      for (int source = 0; source < n; ++source) {
        int on = 0;
        for (int r = 0; r < n; ++r) {
          bool const passes = tpx::on_path<Topology>(r, source, root, n);
          on += static_cast<int>(passes);
          if (passes && hops<Topology>(r, root, n) > hops<Topology>(source, root, n)) {
            return false;
          }
        }
        if (on != hops<Topology>(source, root, n) + 1) { return false; }
        if (!tpx::on_path<Topology>(source, source, root, n)) { return false; }
        if (!tpx::on_path<Topology>(root, source, root, n)) { return false; }
      }
      return true;
    },
    most);
}
// A compiler counts its steps: the larger worlds follow at run time.
static_assert(paths_are_whole<AllPairs>(7) && paths_are_whole<Ring>(7) && paths_are_whole<Tree>(7));

template <class Topology>
constexpr int deepest(int n, int root) {
  int most = 0;
  for (int r = 0; r < n; ++r) { most = std::max(most, hops<Topology>(r, root, n)); }
  return most;
}
static_assert(everywhere([](int n, int root) {
  return deepest<AllPairs>(n, root) == std::min(n - 1, 1) && deepest<Ring>(n, root) == n - 1 &&
         deepest<Tree>(n, root) == static_cast<int>(std::bit_width(static_cast<unsigned>(n))) - 1 &&
         (n == 1 || std::popcount(tpx::children<Ring>(root, root, n)) == 1);
}));
static_assert(everywhere([](int n, int root) {
  for (int r = 0; r < n; ++r) {
    if (std::popcount(tpx::children<Tree>(r, root, n)) > 2) { return false; }
  }
  return true;
}));

/// Each rank goes through all roots, once each, in both directions.
template <class Topology>
consteval bool turns_are_permutations() {
  return everywhere([](int n, int rank) {
    tpx::rank_set reduced = 0;
    tpx::rank_set sent = 0;
    for (int k = 0; k < n; ++k) {
      reduced |= tpx::rank_set{1} << tpx::reduce_turn<Topology>(rank, k, n);
      sent |= tpx::rank_set{1} << tpx::broadcast_turn<Topology>(rank, k, n);
    }
    auto const all = (tpx::rank_set{1} << n) - 1;
    return reduced == all && sent == all;
  });
}
static_assert(turns_are_permutations<AllPairs>() && turns_are_permutations<Auto>() &&
              turns_are_permutations<Ring>() && turns_are_permutations<Tree>());

/// The two ends of a schedule, as each topology's header describes them.
static_assert(everywhere([](int n, int rank) {
  return tpx::reduce_turn<Ring>(rank, n - 1, n) == rank &&
         tpx::broadcast_turn<Ring>(rank, 0, n) == rank &&
         tpx::reduce_turn<AllPairs>(rank, n - 1, n) == rank &&
         tpx::broadcast_turn<AllPairs>(rank, 0, n) == rank;
}));

// Schedules: what each rank does, one step after the other, with messages that have names. A step
// is done once all it waits for is there; a queue holds two messages.

/// What is for `root`, from or of `other`, in `piece`.
using name = std::array<int, 3>;

struct step {
  enum { send, take, free } what;
  int peer;
  name message;
};

class schedule {
 public:
  explicit schedule(int n) : steps_(static_cast<std::size_t>(n)) {}

  void add(int rank, step s) { steps_[static_cast<std::size_t>(rank)].push_back(s); }

  /// Carries the schedule out, always with the first rank that can go on, or the last. Says what is
  /// wrong: a message that is not the one expected, ranks that wait for ever, messages left over.
  [[nodiscard]] std::string play(bool last_first) const {
    std::size_t const n = steps_.size();
    std::vector<std::size_t> at(n, 0);
    std::vector<std::vector<name>> sent(n * n);
    std::vector<std::size_t> taken(n * n, 0);
    std::vector<std::size_t> freed(n * n, 0);
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t i = 0; i < n && !moved; ++i) {
        std::size_t const r = last_first ? n - 1 - i : i;
        if (at[r] == steps_[r].size()) { continue; }
        step const& s = steps_[r][at[r]];
        auto const p = static_cast<std::size_t>(s.peer);
        if (s.what == step::send) {
          auto& queue = sent[r * n + p];
          if (queue.size() - freed[r * n + p] == 2) { continue; }
          queue.push_back(s.message);
        } else if (s.what == step::take) {
          auto const& queue = sent[p * n + r];
          if (queue.size() == taken[p * n + r]) { continue; }
          if (queue[taken[p * n + r]++] != s.message) {
            return "rank " + std::to_string(r) + " takes another message than rank " +
                   std::to_string(p) + " sent";
          }
        } else {
          ++freed[p * n + r];
        }
        ++at[r];
        moved = true;
      }
    }
    for (std::size_t r = 0; r < n; ++r) {
      if (at[r] != steps_[r].size()) {
        return "rank " + std::to_string(r) + " waits for ever in its step " + std::to_string(at[r]);
      }
    }
    for (std::size_t q = 0; q < n * n; ++q) {
      if (freed[q] != sent[q].size()) { return "a message is left over"; }
    }
    return {};
  }

 private:
  std::vector<std::vector<step>> steps_;
};

/// Data goes up the root's tree, as rooted::reduce sends it.
template <class Topology>
void add_reduce(schedule& s, int rank, int root, int piece, int n) {
  auto const kids = tpx::children<Topology>(rank, root, n);
  int const parent = Topology::parent(rank, root, n);
  for (int c = 0; c < n; ++c) {
    if ((kids >> c & 1u) != 0) { s.add(rank, {step::take, c, {root, 0, piece}}); }
  }
  if (parent >= 0) { s.add(rank, {step::send, parent, {root, 0, piece}}); }
  for (int c = 0; c < n; ++c) {
    if ((kids >> c & 1u) != 0) { s.add(rank, {step::free, c, {}}); }
  }
}

/// Data goes down the root's tree, as rooted::broadcast sends it.
template <class Topology>
void add_broadcast(schedule& s, int rank, int root, int piece, int n) {
  auto const kids = tpx::children<Topology>(rank, root, n);
  int const parent = Topology::parent(rank, root, n);
  if (parent >= 0) { s.add(rank, {step::take, parent, {root, 1, piece}}); }
  for (int c = 0; c < n; ++c) {
    if ((kids >> c & 1u) != 0) { s.add(rank, {step::send, c, {root, 1, piece}}); }
  }
  if (parent >= 0) { s.add(rank, {step::free, parent, {}}); }
}

/// `from`'s columns go to `root`, as gather_protocol passes them on.
template <class Topology>
void add_gather(schedule& s, int rank, int from, int root, int pieces, int n) {
  if (from == root || !tpx::on_path<Topology>(rank, from, root, n)) { return; }
  int below = from;
  while (rank != from && Topology::parent(below, root, n) != rank) {
    below = Topology::parent(below, root, n);
  }
  for (int piece = 0; piece < pieces; ++piece) {
    if (rank != from) { s.add(rank, {step::take, below, {root, from, piece}}); }
    if (rank != root) {
      s.add(rank, {step::send, Topology::parent(rank, root, n), {root, from, piece}});
    }
    if (rank != from) { s.add(rank, {step::free, below, {}}); }
  }
}

constexpr int pieces = 5;

/// How many pieces rank r's columns have: uneven, and none for some.
int pieces_of(int r, bool uneven) {
  return uneven ? r * 3 % 4 : pieces;
}

void expect_sound(schedule const& s) {
  CHECK(s.play(false).empty());
  CHECK(s.play(true).empty());
}

template <class Topology>
void check_rounds() {
  for (int n = 1; n <= max_ranks; ++n) {
    for (bool const uneven : {false, true}) {
      CAPTURE(n, uneven);
      schedule reduce{n};
      schedule broadcast{n};
      schedule both{n};
      for (int rank = 0; rank < n; ++rank) {
        for (int piece = 0; piece < pieces; ++piece) {
          for (int k = 0; k < n; ++k) {
            int const root = tpx::reduce_turn<Topology>(rank, k, n);
            if (piece >= pieces_of(root, uneven)) { continue; }
            add_reduce<Topology>(reduce, rank, root, piece, n);
            add_reduce<Topology>(both, rank, root, piece, n);
          }
          for (int k = 0; k < n; ++k) {
            int const root = tpx::broadcast_turn<Topology>(rank, k, n);
            if (piece >= pieces_of(root, uneven)) { continue; }
            add_broadcast<Topology>(broadcast, rank, root, piece, n);
            add_broadcast<Topology>(both, rank, root, piece, n);
          }
        }
      }
      expect_sound(reduce);
      expect_sound(broadcast);
      expect_sound(both);
    }
  }
}

template <class Topology>
void check_gather() {
  for (int n = 1; n <= max_ranks; ++n) {
    for (bool const uneven : {false, true}) {
      CAPTURE(n, uneven);
      schedule s{n};
      for (int rank = 0; rank < n; ++rank) {
        for (int root = 0; root < n; ++root) {
          for (int d = 0; d < n; ++d) {
            int const from = (root + d) % n;
            add_gather<Topology>(s, rank, from, root, pieces_of(from, uneven), n);
          }
        }
      }
      expect_sound(s);
    }
  }
}

}  // namespace

TEST_CASE("The way from each rank to each root is what on_path() says, for every world size") {
  CHECK(paths_are_whole<AllPairs>(max_ranks));
  CHECK(paths_are_whole<Ring>(max_ranks));
  CHECK(paths_are_whole<Tree>(max_ranks));
}

TEST_CASE(
  "Ranks that are all roots at once keep one order of messages and never wait in a circle") {
  check_rounds<AllPairs>();
  check_rounds<Ring>();
  check_rounds<Tree>();
}

TEST_CASE("Every gather keeps one order of messages and never waits in a circle") {
  check_gather<AllPairs>();
  check_gather<Ring>();
  check_gather<Tree>();
}

TEST_CASE("Pieces that go up and down a tree at once never wait in a circle, however deep it is") {
  for (int n = 1; n <= max_ranks; ++n) {
    for (int lag = 0; lag <= 6; ++lag) {
      CAPTURE(n, lag);
      schedule s{n};
      for (int rank = 0; rank < n; ++rank) {
        for (int k = 0; k < 12 + lag; ++k) {
          if (k < 12) { add_reduce<Tree>(s, rank, 0, k, n); }
          if (k >= lag) { add_broadcast<Tree>(s, rank, 0, k - lag, n); }
        }
      }
      expect_sound(s);
    }
  }
}

TEST_CASE("The check of schedules finds an order that differs and a circle") {
  schedule order{2};
  order.add(0, {step::send, 1, {0, 0, 0}});
  order.add(0, {step::send, 1, {1, 0, 0}});
  order.add(1, {step::take, 0, {1, 0, 0}});
  CHECK(order.play(false) == "rank 1 takes another message than rank 0 sent");

  schedule circle{2};
  for (int rank = 0; rank < 2; ++rank) {
    for (int m = 0; m < 3; ++m) { circle.add(rank, {step::send, 1 - rank, {0, 0, m}}); }
  }
  CHECK(circle.play(false) == "rank 0 waits for ever in its step 2");

  // The turns of a ring, the one way round for all, do not fit its other way round.
  schedule turns{3};
  for (int rank = 0; rank < 3; ++rank) {
    for (int k = 0; k < 3; ++k) {
      add_reduce<Ring>(turns, rank, tpx::broadcast_turn<Ring>(rank, k, 3), 0, 3);
    }
  }
  CHECK(!turns.play(false).empty());
}
