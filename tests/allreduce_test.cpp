// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "world.hpp"

#include <tpx/allreduce.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>

namespace {

using namespace world;

/// The exact sum, by long addition from the last rank to the first.
template <class T>
std::string compare_sum(T got, std::size_t i, int n, unsigned salt) {
  if constexpr (std::is_integral_v<T>) {
    std::uint64_t exact = 0;
    for (int r = n; r-- > 0;) { exact += static_cast<std::uint64_t>(value<T>(r, i, salt)); }
    if (static_cast<T>(exact) == got) { return ""; }
  } else {
    double exact = 0;
    double size = 0;
    for (int r = n; r-- > 0;) {
      double const v = as_double(value<T>(r, i, salt));
      exact += v;
      size += std::abs(v);
    }
    if (std::abs(as_double(got) - exact) <= tolerance<T>(exact, size, n)) { return ""; }
  }
  return "element " + std::to_string(i) + " is wrong on " + std::to_string(n) + " ranks, type " +
         std::string{name(dtype_of<T>())};
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("allreduce gives every rank the sum, in the same bits", "[allreduce]",
                        communicators) {
  notes found;
  std::atomic<long> calls = 0;
  for (int n = 1; n <= 8; ++n) {
    on_ranks(n, [&](group& g) {
      TestType comm{g, options(n)};
      unsigned salt = 0;
      for_types([&]<class T>(T) {
        for (std::size_t const size : sizes()) {
          for (std::size_t const offset : {std::size_t{0}, std::size_t{1}}) {
            for (bool const in_place : {true, false}) {
              ++salt;
              guarded<T> in{size, offset};
              guarded<T> out{size, 3 - offset};
              for (std::size_t i = 0; i < size; ++i) { in.span()[i] = value<T>(g.rank(), i, salt); }
              if (in_place) {
                allreduce(comm, in.span());
              } else {
                allreduce(comm, in.span(), out.span());
              }
              auto const result = in_place ? in.span() : out.span();
              for (std::size_t i = 0; i < size; ++i) {
                auto const wrong = compare_sum(result[i], i, n, salt);
                if (!wrong.empty()) {
                  found.add(wrong);
                  break;
                }
                if (!in_place && !same_bits(in.span()[i], value<T>(g.rank(), i, salt))) {
                  found.add("the input was changed");
                  break;
                }
              }
              if (!in.intact() || !out.intact()) { found.add("wrote outside an array"); }
              std::uint64_t hash = 14695981039346656037u;
              for (std::byte const b : std::as_bytes(result)) {
                hash = (hash ^ static_cast<std::uint64_t>(b)) * 1099511628211u;
              }
              g.agree(hash);
              if (g.rank() == 0) { ++calls; }
            }
          }
        }
      });
    });
  }
  REQUIRE(found.all() == "");
  REQUIRE(calls == 8 * 6 * 8 * 2 * 2);
}

TEST_CASE("AllPairs and Auto add in rank order whatever the size", "[allreduce]") {
  notes found;
  for (int n : {3, 6}) {
    on_ranks(n, [&](group& g) {
      communicator<HostPinned, AllPairs, Cpu> shared{g};
      communicator<PeerDirect, Auto, Cpu> pushed{g, {.max_bytes = 4096}};
      for (std::size_t const size : {std::size_t{5}, std::size_t{3000}, std::size_t{20000}}) {
        for_types([&]<class T>(T) {
          using A = accumulate_t<T>;
          std::vector<T> x(size);
          for (std::size_t i = 0; i < size; ++i) { x[i] = value<T>(g.rank(), i, 7); }
          auto y = x;
          allreduce(shared, x);
          allreduce(pushed, y);
          for (std::size_t i = 0; i < size; ++i) {
            A sum = static_cast<A>(value<T>(0, i, 7));
            for (int r = 1; r < n; ++r) {
              if constexpr (std::is_integral_v<T>) {
                sum = static_cast<A>(static_cast<std::uint32_t>(sum) +
                                     static_cast<std::uint32_t>(value<T>(r, i, 7)));
              } else {
                sum += static_cast<A>(value<T>(r, i, 7));
              }
            }
            if (!same_bits(x[i], static_cast<T>(sum)) || !same_bits(y[i], static_cast<T>(sum))) {
              found.add("element " + std::to_string(i) + " was added in another order");
              break;
            }
          }
        });
      }
    });
  }
  REQUIRE(found.all() == "");
}

namespace {

/// A user's own element and operation: the larger value and where it is.
struct where {
  float value;
  std::int32_t index;
};

struct larger {
  TPX_HD where operator()(where a, where b) const {
    return a.value > b.value || (a.value == b.value && a.index < b.index) ? a : b;
  }
};

/// Keeps what comes first: not commutative.
struct first {
  static constexpr bool commutative = false;
  template <class A>
  TPX_HD A operator()(A a, A) const {
    return a;
  }
};

}  // namespace

TEMPLATE_LIST_TEST_CASE("allreduce takes other operations, the user's too", "[allreduce]",
                        communicators) {
  notes found;
  for (int n : {1, 2, 5}) {
    on_ranks(n, [&](group& g) {
      TestType comm{g};
      for (std::size_t const size : {std::size_t{3}, std::size_t{9000}}) {
        std::vector<double> most(size);
        std::vector<std::int32_t> least(size);
        std::vector<std::int8_t> product(size);
        std::vector<where> best(size);
        for (std::size_t i = 0; i < size; ++i) {
          most[i] = value<double>(g.rank(), i, 1);
          least[i] = value<std::int32_t>(g.rank(), i, 2);
          product[i] = value<std::int8_t>(g.rank(), i, 3);
          best[i] = {std::floor(value<float>(g.rank(), i, 4)), g.rank()};
        }
        allreduce(comm, most, Max{});
        allreduce(comm, least, Min{});
        allreduce(comm, product, Prod{});
        allreduce(comm, best, larger{});
        for (std::size_t i = 0; i < size; ++i) {
          double m = -1e300;
          std::int64_t l = 1ll << 40;
          unsigned p = 1;
          int b = 0;
          for (int r = 0; r < n; ++r) {
            m = std::max(m, value<double>(r, i, 1));
            l = std::min<std::int64_t>(l, value<std::int32_t>(r, i, 2));
            p *= static_cast<unsigned>(value<std::int8_t>(r, i, 3));
            bool const better =
              std::floor(value<float>(r, i, 4)) > std::floor(value<float>(b, i, 4));
            b = better ? r : b;
          }
          if (most[i] != m || least[i] != l || product[i] != static_cast<std::int8_t>(p) ||
              best[i].index != b) {
            found.add("element " + std::to_string(i) + " is wrong on " + std::to_string(n));
            break;
          }
        }
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("allreduce keeps the order of an operation that is not commutative", "[allreduce]") {
  notes found;
  on_ranks(5, [&](group& g) {
    communicator<PeerDirect, AllPairs, Cpu> comm{g};
    std::vector<int> x(9000, g.rank() + 100);
    allreduce(comm, x, first{});
    for (int const v : x) {
      if (v != 100) {
        found.add("not rank 0's value");
        break;
      }
    }
  });
  REQUIRE(found.all() == "");
}

TEMPLATE_LIST_TEST_CASE("the residual epilogue adds once and rounds once", "[allreduce]",
                        communicators) {
  notes found;
  for (int n : {1, 3, 4}) {
    on_ranks(n, [&](group& g) {
      TestType comm{g, options(n)};
      for (std::size_t const size : {std::size_t{1}, std::size_t{100}, std::size_t{20011}}) {
        std::vector<bfloat16> x(size);
        std::vector<bfloat16> residual(size);
        for (std::size_t i = 0; i < size; ++i) {
          x[i] = value<bfloat16>(g.rank(), i, 5);
          residual[i] = value<bfloat16>(99, i, 6);
        }
        allreduce(comm, x, residual, Sum{}, add_residual{residual.data()});
        for (std::size_t i = 0; i < size; ++i) {
          double exact = as_double(value<bfloat16>(99, i, 6));
          double magnitude = std::abs(exact);
          for (int r = 0; r < n; ++r) {
            exact += as_double(value<bfloat16>(r, i, 5));
            magnitude += std::abs(as_double(value<bfloat16>(r, i, 5)));
          }
          if (std::abs(as_double(residual[i]) - exact) >
              tolerance<bfloat16>(exact, magnitude, n + 1)) {
            found.add("element " + std::to_string(i) + " is wrong");
            break;
          }
        }
        std::uint64_t bits = 0;
        for (auto v : residual) { bits = bits * 31 + v.bits; }
        g.agree(bits);
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("allreduce refuses arrays that do not fit before it changes anything", "[allreduce]") {
  std::string said;
  on_ranks(1, [&](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<float> x(10, 1.0f);
    for (auto const& [n, m] : {std::pair{10, 9}, std::pair{8, 8}}) {
      try {
        allreduce(comm, std::span{x}.first(static_cast<std::size_t>(n)),
                  std::span{x}.last(static_cast<std::size_t>(m)));
        said += "nothing; ";
      } catch (error const& e) {
        said +=
          std::string{name(e.code())} +
          (std::string{e.what()}.find("overlap") != std::string::npos ? " overlap; " : " sizes; ");
      }
    }
  });
  REQUIRE(said == "invalid_argument sizes; invalid_argument overlap; ");
}
