// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "world.hpp"

#include <tpx/allgather.hpp>
#include <tpx/barrier.hpp>
#include <tpx/broadcast.hpp>
#include <tpx/gather.hpp>
#include <tpx/reduce_scatter.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>

namespace {

using namespace world;

/// A plan of a test's own: any ranges for any split.
struct ranges {
  std::vector<std::pair<std::size_t, std::size_t>> of_rank;
  struct range_t {
    std::size_t begin, end;
  };
  template <class Split>
  [[nodiscard]] range_t range(int rank) const {
    auto const [b, e] = of_rank[static_cast<std::size_t>(rank)];
    return {b, e};
  }
};

/// One plan for the vocabulary split and another for the rest.
struct two_plans {
  ranges source, target;
  template <class Split>
  [[nodiscard]] ranges::range_t range(int rank) const {
    return (std::is_same_v<Split, split::Vc> ? source : target).template range<Split>(rank);
  }
};

/// Cuts `total` into n uneven ranges, some of them empty.
ranges uneven(std::size_t total, int n, unsigned seed) {
  ranges plan;
  std::size_t at = 0;
  for (int r = 0; r < n; ++r) {
    std::size_t const left = total - at;
    auto const pick = static_cast<std::size_t>(value<std::uint16_t>(r, seed, 17));
    std::size_t const size = r + 1 == n ? left : (pick % 4 == 0 ? 0 : pick % (left / 2 + 1));
    plan.of_rank.emplace_back(at, at + size);
    at += size;
  }
  return plan;
}

template <class T>
void fill(std::span<T> x, int rank, unsigned salt) {
  for (std::size_t i = 0; i < x.size(); ++i) { x[i] = value<T>(rank, i, salt); }
}

template <class T>
bool holds(std::span<T> x, int rank, unsigned salt) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!same_bits(x[i], value<T>(rank, i, salt))) { return false; }
  }
  return true;
}

/// Runs body(comm, T{}, size, offset, salt, found) for every world size, type, size and alignment.
template <class Comm, class F>
long sweep(notes& found, F body) {
  std::atomic<long> cases = 0;
  for (int n = 1; n <= 8; ++n) {
    on_ranks(n, [&](group& g) {
      Comm comm{g, options(n)};
      unsigned salt = 0;
      for_types([&]<class T>(T) {
        for (std::size_t const size : sizes()) {
          for (std::size_t const offset : {std::size_t{0}, std::size_t{1}}) {
            body(comm, T{}, size, offset, ++salt, found);
            if (g.rank() == 0) { ++cases; }
          }
        }
      });
    });
  }
  return cases;
}

constexpr long all_cases = 8 * 6 * 8 * 2;

}  // namespace

TEMPLATE_LIST_TEST_CASE("broadcast gives every rank the root's values", "[broadcast]",
                        communicators) {
  notes found;
  auto const cases = sweep<TestType>(
    found, [](auto& comm, auto type, std::size_t n, std::size_t offset, unsigned salt, notes& f) {
      using T = decltype(type);
      int const root = static_cast<int>(salt) % comm.size();
      guarded<T> x{n, offset + static_cast<std::size_t>(comm.rank() % 3)};
      if (comm.rank() == root) { fill(x.span(), root, salt); }
      broadcast(comm, x.span(), root);
      if (!holds(x.span(), root, salt)) { f.add("wrong values from root " + std::to_string(root)); }
      if (!x.intact()) { f.add("wrote outside"); }
    });
  REQUIRE(found.all() == "");
  REQUIRE(cases == all_cases);
}

TEMPLATE_LIST_TEST_CASE("allgather gives every rank all values in rank order", "[allgather]",
                        communicators) {
  notes found;
  auto const cases = sweep<TestType>(
    found, [](auto& comm, auto type, std::size_t n, std::size_t offset, unsigned salt, notes& f) {
      using T = decltype(type);
      n = n > 8192 ? 8193 : n;
      guarded<T> in{n, offset};
      guarded<T> out{n * static_cast<std::size_t>(comm.size()), 2 - offset};
      fill(in.span(), comm.rank(), salt);
      auto const mine = out.span().subspan(static_cast<std::size_t>(comm.rank()) * n, n);
      if (salt % 2 == 0) {
        allgather(comm, in.span(), out.span());
      } else {
        std::copy(in.span().begin(), in.span().end(), mine.begin());
        allgather(comm, mine, out.span());
      }
      for (int r = 0; r < comm.size(); ++r) {
        if (!holds(out.span().subspan(static_cast<std::size_t>(r) * n, n), r, salt)) {
          f.add("wrong values of rank " + std::to_string(r));
        }
      }
      if (!out.intact() || !in.intact()) { f.add("wrote outside"); }
    });
  REQUIRE(found.all() == "");
  REQUIRE(cases == all_cases);
}

TEMPLATE_LIST_TEST_CASE("gather gives the root all values in rank order", "[gather]",
                        communicators) {
  notes found;
  auto const cases = sweep<TestType>(
    found, [](auto& comm, auto type, std::size_t n, std::size_t offset, unsigned salt, notes& f) {
      using T = decltype(type);
      n = n > 8192 ? 8193 : n;
      int const root = static_cast<int>(salt) % comm.size();
      bool const am_root = comm.rank() == root;
      guarded<T> in{n, offset};
      guarded<T> out{am_root ? n * static_cast<std::size_t>(comm.size()) : 0, 1 - offset};
      fill(in.span(), comm.rank(), salt);
      gather(comm, in.span(), out.span(), root);
      for (int r = 0; r < comm.size() && am_root; ++r) {
        if (!holds(out.span().subspan(static_cast<std::size_t>(r) * n, n), r, salt)) {
          f.add("wrong values of rank " + std::to_string(r));
        }
      }
      if (!out.intact() || !in.intact()) { f.add("wrote outside"); }
    });
  REQUIRE(found.all() == "");
  REQUIRE(cases == all_cases);
}

TEMPLATE_LIST_TEST_CASE("reduce_scatter leaves each rank its part of the sum", "[reduce_scatter]",
                        communicators) {
  notes found;
  auto const cases = sweep<TestType>(
    found, [](auto& comm, auto type, std::size_t n, std::size_t offset, unsigned salt, notes& f) {
      using T = decltype(type);
      n = n > 8192 ? 8193 : n;
      guarded<T> in{n * static_cast<std::size_t>(comm.size()), offset};
      guarded<T> out{n, 1 - offset};
      fill(in.span(), comm.rank(), salt);
      auto const base = static_cast<std::size_t>(comm.rank()) * n;
      auto const result = salt % 2 == 0 ? out.span() : in.span().subspan(base, n);
      reduce_scatter(comm, in.span(), result);
      for (std::size_t i = 0; i < n; ++i) {
        double exact = 0;
        double size = 0;
        std::uint64_t wrapped = 0;
        for (int r = comm.size(); r-- > 0;) {
          T const v = value<T>(r, base + i, salt);
          exact += as_double(v);
          size += std::abs(as_double(v));
          if constexpr (std::is_integral_v<T>) { wrapped += static_cast<std::uint64_t>(v); }
        }
        bool right;
        if constexpr (std::is_integral_v<T>) {
          right = result[i] == static_cast<T>(wrapped);
        } else {
          right = std::abs(as_double(result[i]) - exact) <= tolerance<T>(exact, size, comm.size());
        }
        if (!right) {
          f.add("element " + std::to_string(i) + " is wrong on " + std::to_string(comm.size()));
          break;
        }
      }
      if (!out.intact() || !in.intact()) { f.add("wrote outside"); }
    });
  REQUIRE(found.all() == "");
  REQUIRE(cases == all_cases);
}

TEMPLATE_LIST_TEST_CASE("strided columns by uneven splits go where the plan says", "[gather]",
                        communicators) {
  notes found;
  for (int n = 1; n <= 8; ++n) {
    on_ranks(n, [&](group& g) {
      TestType comm{g, options(n)};
      int const me = comm.rank();
      for (unsigned seed = 0; seed < 6; ++seed) {
        std::size_t const units = 1 + seed * 7;
        std::size_t const dim = seed % 3 + 1;
        std::size_t const width = units * dim;
        std::size_t const rows = seed == 5 ? 120 : seed % 4;
        auto const plan = uneven(units, n, seed);
        auto const [b, e] = plan.of_rank[static_cast<std::size_t>(me)];
        std::size_t const own = (e - b) * dim;
        matrix const m{.rows = rows, .dim = dim, .in_pitch = own + 3, .out_pitch = width + 5};
        auto const whole = [&](std::size_t row, std::size_t col) {
          return value<float>(1000, row * width + col, seed);
        };
        guarded<float> in{rows * (own + 3), 1};
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < own; ++c) {
            in.span()[r * (own + 3) + c] = whole(r, b * dim + c);
          }
        }
        auto const check = [&](std::span<float> out, std::size_t from, std::size_t cols,
                               std::size_t pitch, char const* what) {
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < cols; ++c) {
              if (out[r * pitch + c] != whole(r, from + c)) {
                found.add(std::string{what} + " put a wrong value at row " + std::to_string(r));
                return;
              }
            }
          }
        };
        guarded<float> out{rows * (width + 5), 0};
        int const root = static_cast<int>(seed) % n;
        gather<split::Vc>(comm, plan, in.span(), out.span(), m, root);
        if (me == root) { check(out.span(), 0, width, width + 5, "gather"); }

        guarded<float> all{rows * (width + 5), 0};
        allgather<split::Vc>(comm, plan, in.span(), all.span(), m);
        check(all.span(), 0, width, width + 5, "allgather");

        guarded<float> also{rows * (width + 5), 0};
        gather<split::Vc, split::All>(comm, plan, in.span(), also.span(), m);
        check(also.span(), 0, width, width + 5, "gather to all");

        two_plans const both{plan, uneven(width, n, seed + 100)};
        auto const [tb, te] = both.target.of_rank[static_cast<std::size_t>(me)];
        guarded<float> cut{rows * (te - tb), 2};
        gather<split::Vc, split::Id>(
          comm, both, in.span(), cut.span(),
          {.rows = rows, .dim = dim, .in_pitch = own + 3, .target_dim = 1});
        check(cut.span(), tb, te - tb, te - tb, "redistribution");

        guarded<float> full{rows * (width + 2), 0};
        guarded<float> part{rows * own, 1};
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < width; ++c) {
            full.span()[r * (width + 2) + c] =
              static_cast<float>(me + 1) * static_cast<float>(r + c);
          }
        }
        reduce_scatter<split::Vc>(comm, plan, full.span(), part.span(),
                                  {.rows = rows, .dim = dim, .in_pitch = width + 2});
        for (std::size_t i = 0; i < rows * own; ++i) {
          float const expected =
            static_cast<float>(n * (n + 1) / 2) * static_cast<float>(i / own + b * dim + i % own);
          if (part.span()[i] != expected) {
            found.add("reduce_scatter put a wrong value at " + std::to_string(i));
            break;
          }
        }
        if (!in.intact() || !out.intact() || !all.intact() || !also.intact() || !cut.intact() ||
            !full.intact() || !part.intact()) {
          found.add("wrote outside");
        }
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("columns that several ranks hold come from the first of them", "[gather]") {
  notes found;
  on_ranks(4, [&](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    ranges const plan{{{0, 2}, {0, 2}, {1, 4}, {3, 4}}};  // ranks 0 and 1 hold the same
    auto const [b, e] = plan.of_rank[static_cast<std::size_t>(g.rank())];
    std::vector<int> in;
    for (std::size_t i = b; i < e; ++i) { in.push_back(static_cast<int>(i) * 10); }
    std::vector<int> out(4, -1);
    gather<split::Kv, split::All>(comm, plan, in, out, {});
    std::vector<int> also(4, -1);
    allgather<split::Kv>(comm, plan, in, also, {});
    if (out != std::vector{0, 10, 20, 30} || also != out) { found.add("wrong"); }
  });
  REQUIRE(found.all() == "");
}

TEMPLATE_LIST_TEST_CASE("no rank leaves a barrier before all have come", "[barrier]",
                        communicators) {
  notes found;
  for (int n = 1; n <= 8; ++n) {
    std::vector<std::uint64_t> come(static_cast<std::size_t>(n));  // plain: the barrier orders them
    on_ranks(n, [&](group& g) {
      TestType comm{g};
      for (std::uint64_t k = 1; k <= (sanitized ? 100u : 500u); ++k) {
        come[static_cast<std::size_t>(g.rank())] = k;
        if (k % 2 == 0) {
          barrier(comm);
        } else {
          split_barrier stage{comm};
          stage.wait();
        }
        for (auto const c : come) {
          if (c != k) { found.add("a rank was not there"); }
        }
        barrier(comm);
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("bad roots and short arrays are refused on the spot", "[broadcast][gather]") {
  std::string said;
  on_ranks(1, [&](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<float> x(4);
    auto const refused = [&](auto&& call) {
      try {
        call();
        said += "accepted ";
      } catch (error const& e) { said += e.code() == errc::invalid_argument ? "" : e.what(); }
    };
    refused([&] { broadcast(comm, x, 1); });
    refused([&] { broadcast(comm, x, -1); });
    refused([&] { gather(comm, x, std::span<float>{}, 0); });
    refused([&] { gather(comm, x, x, 0); });
    refused([&] { gather<split::Vc>(comm, ranges{{{0, 5}}}, x, x, {}); });
    refused([&] { allgather(comm, x, std::span{x}.first(3)); });
    refused([&] { reduce_scatter(comm, std::span{x}.first(3), x); });
  });
  REQUIRE(said == "");
}
