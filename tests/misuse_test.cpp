// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "world.hpp"

#include <tpx/allgather.hpp>
#include <tpx/allreduce.hpp>
#include <tpx/barrier.hpp>
#include <tpx/command_channel.hpp>
#include <tpx/gather.hpp>
#include <tpx/reduce_scatter.hpp>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace world;
using namespace std::chrono_literals;

/// Runs body on n ranks and gives each rank's error code; ok where there was none.
template <class F>
std::vector<errc> codes(int n, F body) {
  std::vector<errc> all(static_cast<std::size_t>(n), errc::ok);
  try {
    on_ranks(
      n,
      [&](group& g) {
        try {
          body(g);
          (void)g.agree(1);  // a rank whose part needs no answer hears of it here
        } catch (error const& e) {
          all[static_cast<std::size_t>(g.rank())] = e.code();
          throw;
        }
      },
      5s);
  } catch (error const&) {}
  return all;
}

std::vector<errc> everywhere(int n, errc code) {
  return std::vector<errc>(static_cast<std::size_t>(n), code);
}

struct small {
  std::int64_t a;
};
struct large {
  std::int64_t a, b;
};
struct keep {
  template <class T>
  TPX_HD T operator()(T x, T) const {
    return x;
  }
};

/// Everything on rank 0, or a third each.
struct plan_of {
  bool even;
  template <class Split>
  [[nodiscard]] shard_range range(int rank) const {
    auto const r = static_cast<std::size_t>(rank);
    return even ? shard_range{r, r + 1} : shard_range{r == 0 ? 0u : 3u, 3};
  }
};

}  // namespace

TEST_CASE("an operation may take longer than the deadline as long as it goes on", "[misuse]") {
  notes found;
  on_ranks(
    4,
    [&](group& g) {
      communicator<HostPinned, Tree, Cpu> comm{g, {.max_bytes = 1024}};
      std::vector<float> x(sanitized ? 400'000 : 4'000'000, 1.0f);
      auto const begun = std::chrono::steady_clock::now();
      do {
        std::fill(x.begin(), x.end(), 1.0f);
        allreduce(comm, x);
        if (x[7] != 4.0f) { found.add("wrong sum"); }
      } while (g.decide(std::chrono::steady_clock::now() - begun < 300ms ? 1 : 0) != 0);
    },
    100ms);
  REQUIRE(found.all() == "");
}

TEST_CASE("types of the user's that differ are a mismatch", "[misuse]") {
  auto const all = codes(3, [](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<small> x(10);
    std::vector<large> y(10);
    g.rank() == 1 ? allreduce(comm, y, keep{}) : allreduce(comm, x, keep{});
  });
  REQUIRE(all == everywhere(3, errc::mismatch));
}

TEST_CASE("communicators and channels that are made in another order are a mismatch", "[misuse]") {
  using first = communicator<HostPinned, Ring, Cpu>;
  using second = communicator<HostPinned, Tree, Cpu>;
  auto const comms = codes(3, [](group& g) {
    if (g.rank() == 2) {
      second{g};
    } else {
      first{g};
    }
  });
  REQUIRE(comms == everywhere(3, errc::mismatch));
  auto const channels = codes(3, [](group& g) {
    command_channel<int>{g, 0, g.rank() == 1 ? "answers" : "orders"};
  });
  REQUIRE(channels == everywhere(3, errc::mismatch));
}

TEST_CASE("other targets, rows and cuts of a matrix are a mismatch", "[misuse]") {
  auto const targets = codes(3, [](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<float> in(6), out(18);
    plan_of const plan{true};
    g.rank() == 1 ? gather<split::Vc, split::All>(comm, plan, in, out, {.dim = 6})
                  : gather<split::Vc>(comm, plan, in, out, {.dim = 6}, 0);
  });
  REQUIRE(targets == everywhere(3, errc::mismatch));
  auto const rows = codes(3, [](group& g) {
    communicator<PeerDirect, Auto, Cpu> comm{g};
    std::vector<float> in(36), out(12);
    plan_of const plan{true};
    std::size_t const r = g.rank() == 2 ? 4 : 2;
    reduce_scatter<split::Vc>(comm, plan, in, out, {.rows = r, .dim = 12 / r});
  });
  REQUIRE(rows == everywhere(3, errc::mismatch));
  auto const cuts = codes(3, [](group& g) {
    communicator<PeerDirect, Ring, Cpu> comm{g};
    std::vector<float> in(3), out(3);
    allgather<split::Vc>(comm, plan_of{g.rank() != 0}, in, out, {});
  });
  REQUIRE(cuts == everywhere(3, errc::mismatch));
}

TEST_CASE("a call between a barrier's stages is refused where it is made", "[misuse]") {
  std::string said;
  on_ranks(2, [&](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<float> x(3, 1.0f);
    split_barrier stage{comm};
    try {
      allreduce(comm, x);
    } catch (error const& e) {
      if (g.rank() == 0) { said = name(e.code()); }
    }
    stage.wait();
    allreduce(comm, x);  // nothing was broken
    if (x[0] != 2.0f) { said = "wrong sum"; }
  });
  REQUIRE(said == "invalid_argument");
}

TEST_CASE("the time between a barrier's stages is not counted as time in collectives", "[misuse]") {
  std::uint64_t ns = 0;
  on_ranks(1, [&](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    split_barrier stage{comm};
    std::this_thread::sleep_for(50ms);
    stage.wait();
    ns = comm.stats().ns;
  });
  REQUIRE(ns < 25'000'000);
}

TEST_CASE("run_ranks names the rank whose argument was bad", "[misuse]") {
  int rank = -1;
  std::string what;
  try {
    on_ranks(3, [](group& g) {
      communicator<HostPinned, Auto, Cpu> comm{g};
      std::vector<float> x(10), y(g.rank() == 2 ? 9 : 10);
      allreduce(comm, x, y);
    });
  } catch (error const& e) {
    rank = e.rank();
    what = e.what();
  }
  REQUIRE(rank == 2);
  REQUIRE(what.find("rank 2: allreduce: the input has 10 elements, the output 9") !=
          std::string::npos);
}

TEST_CASE("sizes that overflow and arrays that overlap in part are refused", "[misuse]") {
  std::string said;
  on_ranks(1, [&](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<float> x(4), y(4);
    auto const refused = [&](char const* what, auto&& call) {
      try {
        call();
        said += std::string{what} + " was accepted; ";
      } catch (error const& e) {
        if (e.code() != errc::invalid_argument) { said += e.what(); }
      }
    };
    std::size_t const huge = std::size_t{1} << 63;
    refused("a pitch", [&] {
      gather<split::even>(comm, split::even{1}, x, y, {.rows = 3, .in_pitch = huge});
    });
    refused("a dim",
            [&] { gather<split::Vc>(comm, plan_of{true}, x, y, {.rows = 1, .dim = huge}); });
    refused("rows", [&] {
      gather<split::even>(comm, split::even{0}, x, y, {.rows = huge});
      gather<split::even>(comm, split::even{2}, x, y, {.rows = huge});
    });
    refused("an overlap", [&] { allgather(comm, std::span{x}.first(3), std::span{x}.last(3)); });
  });
  REQUIRE(said == "");
}

TEST_CASE("all ranks tell of the same report when several fail at once", "[misuse]") {
  notes found;
  for (int round = 0; round < (sanitized ? 30 : 300); ++round) {
    std::vector<std::string> said(4);
    try {
      on_ranks(4, [&](group& g) {
        (void)g.agree(0);
        g.abort(errc::rank_failed, "rank " + std::to_string(g.rank()) + " is first");
        try {
          g.check();
        } catch (error const& e) {
          said[static_cast<std::size_t>(g.rank())] =
            std::string{e.what()}.substr(std::string{e.what()}.find("is first") - 7, 6);
        }
      });
    } catch (error const&) {}
    for (auto const& s : said) {
      if (s != said[0] || s.empty()) { found.add(said[0] + " / " + s); }
    }
  }
  REQUIRE(found.all() == "");
}
