// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "world.hpp"

#include <tpx/allgather.hpp>
#include <tpx/allreduce.hpp>
#include <tpx/barrier.hpp>
#include <tpx/broadcast.hpp>
#include <tpx/gather.hpp>
#include <tpx/reduce_scatter.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <thread>

namespace {

using namespace world;
using namespace std::chrono_literals;

/// What each rank's body ended with.
struct outcome {
  errc code = errc::ok;
  int peer = -1;
  std::string what;
  std::chrono::steady_clock::duration took{};
};

/// Runs body(rank, comm) on n ranks, `warm` good operations first, and tells how each rank ended.
/// Each rank makes good calls until it gets an error or is done with `after` of them.
template <class Comm, class F>
std::vector<outcome> end_of(int n, int warm, std::chrono::milliseconds deadline, F body) {
  std::vector<outcome> all(static_cast<std::size_t>(n));
  try {
    on_ranks(
      n,
      [&](group& g) {
        auto& mine = all[static_cast<std::size_t>(g.rank())];
        auto const begun = std::chrono::steady_clock::now();
        try {
          Comm comm{g, {.max_bytes = 4096}};
          std::vector<float> x(100, 1.0f);
          for (int i = 0; i < warm; ++i) { allreduce(comm, x, Max{}); }
          body(g, comm);
          // A rank whose part needs no answer may be done before the fault is seen.
          for (int i = 0; i < 3; ++i) { barrier(comm); }
        } catch (error const& e) {
          mine = {e.code(), e.peer(), e.what(), {}};
          mine.took = std::chrono::steady_clock::now() - begun;
          throw;
        }
      },
      deadline);
  } catch (error const&) {}
  return all;
}

/// "" if every rank but `excused` got the code and names the culprit.
std::string blamed(std::vector<outcome> const& all, errc code, int culprit, int excused = -1) {
  std::string wrong;
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (static_cast<int>(r) == excused) { continue; }
    bool const named = all.size() == 2 ? all[r].peer >= 0 : all[r].peer == culprit;
    if (all[r].code != code || !named) {
      wrong += "rank " + std::to_string(r) + " of " + std::to_string(all.size()) + ", culprit " +
               std::to_string(culprit) + ": " + std::string{name(all[r].code)} + " " + all[r].what +
               "\n";
    }
  }
  return wrong;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("whoever calls something else than the others is named on every rank",
                        "[mismatch]", communicators) {
  std::string wrong;
  int cases = 0;
  for (int n = 2; n <= (sanitized ? 3 : 5); ++n) {
    for (int culprit = 0; culprit < n; ++culprit) {
      for (int kind = 0; kind < 8; ++kind) {
        auto const all = end_of<TestType>(n, kind, 10s, [&](group& g, TestType& comm) {
          bool const odd = g.rank() == culprit;
          std::vector<float> x(odd && kind == 0 ? 3000 : 2999);
          std::vector<std::int32_t> y(2999);
          std::vector<float> big(x.size() * static_cast<std::size_t>(n));
          switch (kind) {
            case 0:
              allreduce(comm, x);
              break;  // size
            case 1:   // type
              odd ? allreduce(comm, y) : allreduce(comm, x);
              break;
            case 2:  // operation
              odd ? allreduce(comm, x, Max{}) : allreduce(comm, x, Sum{});
              break;
            case 3:  // collective
              odd ? barrier(comm) : allreduce(comm, x);
              break;
            case 4:  // root
              broadcast(comm, x, odd ? 1 : 0);
              break;
            case 5:  // one call too few
              if (!odd) { broadcast(comm, x); }
              break;
            case 6:
              odd ? gather(comm, x, big) : allgather(comm, x, big);
              break;
            default:  // nothing, where the others bring something
              reduce_scatter(comm, std::span{big}.first(odd ? 0 : big.size()),
                             std::span{x}.first(odd ? 0 : x.size()));
          }
        });
        wrong += blamed(all, errc::mismatch, culprit);
        ++cases;
      }
    }
  }
  REQUIRE(wrong == "");
  REQUIRE(cases == (sanitized ? 5 : 14) * 8);
}

TEMPLATE_LIST_TEST_CASE("a rank that throws, leaves or never comes is named within the deadline",
                        "[mismatch]", communicators) {
  std::string wrong;
  for (int n = 2; n <= 4; ++n) {
    for (int culprit = 0; culprit < n; ++culprit) {
      auto const threw = end_of<TestType>(n, 3, 10s, [&](group& g, TestType& comm) {
        if (g.rank() == culprit) { throw std::runtime_error{"out of patience"}; }
        barrier(comm);
      });
      auto const left = end_of<TestType>(n, 3, 10s, [&](group& g, TestType& comm) {
        if (g.rank() == culprit) {
          g.leave();
        } else {
          barrier(comm);
        }
      });
      auto const began = std::chrono::steady_clock::now();
      auto const late = end_of<TestType>(n, 3, 150ms, [&](group& g, TestType& comm) {
        if (g.rank() == culprit) { std::this_thread::sleep_for(600ms); }
        barrier(comm);
      });
      for (std::size_t r = 0; r < late.size(); ++r) {
        if (static_cast<int>(r) != culprit && late[r].took > 1150ms) { wrong += "too late\n"; }
        if (late[r].peer != culprit) { wrong += "late: " + late[r].what + '\n'; }
        if (late[r].code != errc::timeout) { wrong += "late: " + late[r].what + '\n'; }
      }
      if (std::chrono::steady_clock::now() - began > 5s) { wrong += "hung\n"; }
      for (std::size_t r = 0; r < threw.size(); ++r) {
        if (static_cast<int>(r) == culprit) { continue; }
        if (threw[r].code != errc::rank_failed || threw[r].peer != culprit ||
            threw[r].what.find("out of patience") == std::string::npos) {
          wrong += "threw: " + threw[r].what + '\n';
        }
        if (left[r].code != errc::left || left[r].peer != culprit) {
          wrong += "left: " + left[r].what + '\n';
        }
      }
    }
  }
  REQUIRE(wrong == "");
}

TEST_CASE("run_ranks rethrows the first failure with its rank and cause", "[mismatch]") {
  std::string what;
  int rank = -1;
  std::string cause;
  try {
    on_ranks(4, [](group& g) {
      communicator<HostPinned, Auto, Cpu> comm{g};
      if (g.rank() == 2) { throw std::runtime_error{"the disk is full"}; }
      barrier(comm);
    });
  } catch (error const& e) {
    what = e.what();
    rank = e.peer();
    try {
      std::rethrow_if_nested(e);
    } catch (std::runtime_error const& inner) { cause = inner.what(); }
  }
  REQUIRE(what.find("rank 2: threw: the disk is full") != std::string::npos);
  REQUIRE(rank == 2);
  REQUIRE(cause == "the disk is full");
}

TEST_CASE("an abort is sticky until reset, after which those that live on go on", "[mismatch]") {
  notes found;
  auto body = [&](group& g) {
    for (int round = 0; round < (sanitized ? 20 : 200); ++round) {
      int const n = g.size();
      communicator<PeerDirect, Ring, Cpu> comm{g, {.max_bytes = 4096}};
      std::vector<int> x(2000, 1);
      int errors = 0;
      for (int k = 0; k < 3; ++k) {
        try {
          if (g.rank() == round % n && k == 0) { g.abort(errc::rank_failed, "on purpose"); }
          allreduce(comm, x);
        } catch (error const& e) { errors += static_cast<int>(e.peer() == round % n); }
      }
      if (errors != 3) { found.add("not sticky: " + std::to_string(errors)); }
      g.reset();
      try {
        allreduce(comm, x);
        found.add("an old communicator still worked");
      } catch (error const& e) {
        if (e.code() != errc::stale) { found.add(e.what()); }
      }
      if (g.size() != n) { found.add("a rank was lost"); }
      communicator<HostPinned, Tree, Cpu> again{g};
      std::vector<int> y(10, g.rank());
      for (int k = 0; k < 20; ++k) {
        std::fill(y.begin(), y.end(), g.rank());
        allreduce(again, y);
        if (y[3] != n * (n - 1) / 2) { found.add("wrong sum after reset"); }
      }
    }
  };
  on_ranks(4, body, 5s);
  REQUIRE(found.all() == "");
}

TEST_CASE("reset goes on without ranks that left", "[mismatch]") {
  notes found;
  std::atomic<int> went_on = 0;
  auto body = [&](group& g) {
    int const before = g.rank();
    if (before == 1) { return; }
    try {
      communicator<HostPinned, Auto, Cpu> comm{g};
      found.add("made a communicator without rank 1");
    } catch (error const& e) {
      if (e.code() != errc::left || e.peer() != 1) { found.add(e.what()); }
    }
    g.reset();
    if (g.size() != 3 || g.rank() != (before == 0 ? 0 : before - 1)) {
      found.add("numbered wrong");
    }
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<int> x(5, before);
    allreduce(comm, x);
    if (x[4] != 0 + 2 + 3) { found.add("wrong sum"); }
    ++went_on;
  };
  on_ranks(4, body, 5s);
  REQUIRE(found.all() == "");
  REQUIRE(went_on == 3);
}
