// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Runs the shipped protocols in thousands of orders of their steps. See explorer.hpp.
#include "campaign.hpp"
#include "scenario.hpp"
#include "turns.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t few = 1'000;
#else
constexpr std::uint64_t few = 5'000;
#endif
constexpr std::uint64_t few_of_turns = few / 5;  // other kinds of turns are in each sequence
constexpr std::uint64_t many = 100'000;

/// A topology whose one-shot all-reduce raises its flags before it fills the slots.
struct Hasty : tpx::AllPairs {};

struct hasty_allreduce {
  tpx::wires w;
  explore::element const* in;
  explore::element* out;
  std::size_t n;

  template <tpx::thread_group Group>
  void operator()(Group const& group) const {
    tpx::endpoint const e{group, w};
    tpx::block<explore::element const> const own{in, n, n};
    for (std::size_t first = 0; first < n; first += explore::piece) {
      std::size_t const some = std::min(n - first, explore::piece);
      if (!e.open(e.others())) { return; }
      explore::element* slots[tpx::max_ranks] = {};
      for (int r = 0; r < e.size(); ++r) { slots[r] = e.template out<explore::element>(r); }
      e.send(e.others());
      for (int r = 0; r < e.size(); ++r) {
        if (r != e.rank()) { tpx::pack(group, own, first, some, slots[r]); }
      }
      if (!e.await(e.others())) { return; }
      tpx::fold<explore::element>(
        e, own, first, some, e.others(), tpx::lane::pair, tpx::Sum{},
        tpx::finish<explore::element, tpx::no_epilogue>{{out, n, n}, first, first, {}});
      e.release(e.others());
    }
  }
};

}  // namespace

template <>
void explore::carry_out<Hasty, false>(call& c, std::uint64_t signature, setting const& where,
                                      explorer_thread const& me) {
  if (c.what != kind::one_shot || me.channels() > 1) {
    carry_out<tpx::AllPairs, false>(c, signature, where, me);
    return;
  }
  tpx::wires w{};
  std::copy(std::begin(where.windows), std::end(where.windows), std::begin(w.window));
  w.layout = where.layout;
  w.rank = me.rank();
  w.signature = signature;
  auto const r = static_cast<std::size_t>(me.rank());
  hasty_allreduce{w, c.in_place ? c.out[r].data() : c.in[r].data(), c.out[r].data(), c.n}(me);
}

namespace {

using explore::kind;
using explore::twist;
using explore::variant;
using explore::verdict;

variant const planted{"planted", kind::one_shot, explore::play<Hasty, false>};

std::vector<variant> variants(twist how = twist::none) {
  auto all = explore::flag_variants(how);
  for (auto const& v : explore::turn_variants(how)) { all.push_back(v); }
  return all;
}

/// Also printed as it is: Catch2 would break the command into lines.
void expect_none(std::string const& failure) {
  if (!failure.empty()) { std::fprintf(stderr, "%s", failure.c_str()); }
  INFO(failure);
  CHECK(failure.empty());
}

void explore_topology(std::string_view topology, std::uint64_t count) {
  explore::scheduler s;
  explore::windows memory;
  std::size_t found = 0;
  for (auto const& v : variants()) {
    if (v.topology == topology) {
      ++found;
      expect_none(campaign(s, memory, v, count));
    }
  }
  bool const turns = topology == "Cells";
  REQUIRE(found == (turns ? explore::turn_kinds.size() : topology.starts_with("AllPairs") ? 7 : 6));
}

}  // namespace

TEST_CASE("AllPairs that pushes gives the oracle's values in every schedule explored") {
  explore_topology("AllPairs, pushed", explore::schedules(few));
}
TEST_CASE("AllPairs that shares slots gives the oracle's values in every schedule explored") {
  explore_topology("AllPairs, shared", explore::schedules(few));
}
TEST_CASE("Ring gives the oracle's values in every schedule explored") {
  explore_topology("Ring", explore::schedules(few));
}
TEST_CASE("Tree gives the oracle's values in every schedule explored") {
  explore_topology("Tree", explore::schedules(few));
}

TEST_CASE("Turns at the cells give the oracle's values in every schedule explored") {
  explore_topology("Cells", explore::schedules(few_of_turns));
}

TEST_CASE("AllPairs that pushes: 100,000 schedules of each protocol", "[.][long]") {
  explore_topology("AllPairs, pushed", explore::schedules(many));
}
TEST_CASE("AllPairs that shares slots: 100,000 schedules of each protocol", "[.][long]") {
  explore_topology("AllPairs, shared", explore::schedules(many));
}
TEST_CASE("Ring: 100,000 schedules of each protocol", "[.][long]") {
  explore_topology("Ring", explore::schedules(many));
}
TEST_CASE("Tree: 100,000 schedules of each protocol", "[.][long]") {
  explore_topology("Tree", explore::schedules(many));
}
TEST_CASE("Turns at the cells: 100,000 schedules of each protocol", "[.][long]") {
  explore_topology("Cells", explore::schedules(many));
}

// To ThreadSanitizer, ranks that end early and the planted fault are races.
#if !defined(__SANITIZE_THREAD__)

TEST_CASE("A call that differs on one rank is noticed in every schedule explored") {
  explore::scheduler s;
  explore::windows memory;
  for (auto const& v : variants(twist::another_call)) {
    expect_none(campaign(s, memory, v, explore::schedules(few) / 10));
  }
}

TEST_CASE("A rank that stays away is found as a deadlock in every schedule explored") {
  explore::scheduler s;
  explore::windows memory;
  for (auto const& v : variants(twist::stays_away)) {
    expect_none(campaign(s, memory, v, explore::schedules(few) / 10));
  }
}

TEST_CASE("A seed that fails fails again in the same way, and its neighbours in others") {
  explore::scheduler s;
  explore::windows memory;
  int failures = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    auto const first = planted.run(s, memory, seed);
    explore::scheduler fresh;
    auto const again = planted.run(fresh, memory, seed);
    failures += static_cast<int>(first.kind == verdict::wrong);
    REQUIRE(again.what == first.what);
    REQUIRE(again.order == first.order);
    REQUIRE(again.steps == first.steps);
    auto const other = planted.run(s, memory, seed + 1);
    REQUIRE(other.order != first.order);
  }
  CHECK(failures > 20);
}

// For replay.cmake, which runs the command that this prints.
TEST_CASE("The planted fault is not found", "[.planted]") {
  explore::scheduler s;
  explore::windows memory;
  expect_none(campaign(s, memory, planted, 1'000));
}

#endif

TEST_CASE("The schedule that TPX_EXPLORE_REPLAY names passes", "[.replay]") {
  char const* const named = std::getenv("TPX_EXPLORE_REPLAY");
  REQUIRE(named != nullptr);
  std::vector<variant> known = variants();
  for (auto const how : {twist::another_call, twist::stays_away}) {
    for (auto const& v : variants(how)) { known.push_back(v); }
  }
  known.push_back(planted);
  expect_none(explore::replay(named, known));
}
