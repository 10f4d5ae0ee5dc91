// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// All-reduces with an epilogue of rows: world.hpp's communicators against sums in fp64, and the
// order of addition against the rule written down in rows.hpp.
#include "row_epilogues.hpp"
#include "world.hpp"

#include <tpx/allreduce.hpp>
#include <tpx/reduce_scatter.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>

namespace {

using namespace world;
using namespace row_epilogues;

struct shape {
  std::size_t rows;
  std::size_t columns;
};

std::vector<shape> shapes() {
  if (sanitized) { return {{0, 8}, {1, 1}, {3, 7}, {2, 1000}}; }
  return {{0, 8}, {1, 1}, {3, 7}, {5, 64}, {2, 1000}, {1, 8193}, {7, 1021}};
}

std::vector<int> worlds() {
  if (sanitized) { return {1, 2, 3}; }
  return {1, 2, 3, 4, 5, 8, 16};
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("an all-reduce adds a residual and normalises each row", "[rows]",
                        communicators) {
  notes found;
  std::atomic<long> calls = 0;
  for (int const n : worlds()) {
    on_ranks(n, [&](group& g) {
      TestType comm{g, options(n)};
      unsigned salt = 0;
      for (auto const& [rows, columns] : shapes()) {
        for (auto const output :
             {output::normed, output::over_input, output::fp8, output::static_fp8}) {
          for (bool const in_float : {false, true}) {
            auto const wrong = in_float
                                 ? compare_rows<float>(comm, rows, columns, output, ++salt)
                                 : compare_rows<bfloat16>(comm, rows, columns, output, ++salt);
            if (!wrong.empty()) { found.add(wrong); }
            ++calls;
          }
        }
      }
    });
  }
  REQUIRE(found.all() == "");
  REQUIRE(calls > 0);
}

namespace {

/// A row's sum as the rule has it, from the top down: of the partial sums [first, first + many).
template <class T>
accumulate_t<T> by_the_rule(std::span<T const> row, std::size_t first, std::size_t many) {
  if (many > 1) {
    return by_the_rule<T>(row, first, many / 2) + by_the_rule<T>(row, first + many / 2, many / 2);
  }
  accumulate_t<T> sum{};
  for (std::size_t i = 0; i < row.size(); ++i) {
    bool const ours = i * sizeof(T) / 16 % 1024 == first;
    if (ours) { sum += static_cast<accumulate_t<T>>(row[i]); }
  }
  return sum;
}

/// Stores each row's sum, its largest value and its values less that.
template <class A, class T>
struct statistics {
  A* sums;
  A* largest;
  T* less;
  std::size_t columns;
  template <class V>
  V operator()(V reduced, std::size_t i) const {
    return reduced + static_cast<V>(i % 3);
  }
  template <class Row>
  void row(Row const& r) const {
    auto const value = [](A v, std::size_t) { return v; };
    A const most = r.max(value);
    r.set(sums, r.sum(value));
    r.set(largest, most);
    r.store(less, [&](A v, std::size_t c) { return v - most + static_cast<A>(c % 2); });
  }
};

template <class T>
std::string compare_statistics(group& g, std::size_t rows, std::size_t columns) {
  using A = accumulate_t<T>;
  communicator<PeerDirect, AllPairs, Cpu> comm{g};
  std::vector<T> x(rows * columns);
  for (std::size_t i = 0; i < x.size(); ++i) { x[i] = value<T>(g.rank(), i, 3); }
  auto plain = x;
  std::vector<A> sums(rows);
  std::vector<A> largest(rows);
  std::vector<T> less(x.size());
  allreduce(comm, plain);
  allreduce(comm, x, Sum{}, statistics<A, T>{sums.data(), largest.data(), less.data(), columns});
  for (std::size_t r = 0; r < rows; ++r) {
    auto const row = std::span<T const>{x}.subspan(r * columns, columns);
    A most = std::numeric_limits<A>::lowest();
    for (T const v : row) { most = std::max(most, static_cast<A>(v)); }
    if (!same_bits(by_the_rule<T>(row, 0, 1024), sums[r])) { return "another sum"; }
    if (most != largest[r]) { return "another largest value"; }
    for (std::size_t c = 0; c < columns; ++c) {
      auto const want = static_cast<T>(static_cast<A>(row[c]) - most + static_cast<A>(c % 2));
      if (!same_bits(less[r * columns + c], want)) { return "another value is stored"; }
    }
  }
  return "";
}

}  // namespace

TEST_CASE("a row is added up in the order that its rule says, and a user's epilogue sees it whole",
          "[rows]") {
  notes found;
  on_ranks(2, [&](group& g) {
    for (std::size_t const columns : {1u, 3u, 17u, 2048u, 8200u, 10'011u}) {
      for (auto const& wrong :
           {compare_statistics<float>(g, 3, columns), compare_statistics<bfloat16>(g, 2, columns),
            compare_statistics<double>(g, 2, columns)}) {
        if (!wrong.empty()) { found.add(wrong + ", " + std::to_string(columns) + " columns"); }
      }
    }
  });
  REQUIRE(found.all() == "");
}

TEST_CASE("rows that do not divide the array are refused before anything is changed", "[rows]") {
  std::string said;
  std::vector<float> x(10, 1.0f);
  on_ranks(1, [&](group& g) {
    communicator<HostPinned, Auto, Cpu> comm{g};
    std::vector<float> y(10);
    for (std::size_t const columns : {0u, 3u, 11u}) {
      try {
        allreduce(comm, x, Sum{}, add_rms_norm{x.data(), y.data(), y.data(), columns});
      } catch (error const& e) { said += std::string{name(e.code())} + ' '; }
    }
  });
  REQUIRE(said == "invalid_argument invalid_argument invalid_argument ");
  REQUIRE(x == std::vector<float>(10, 1.0f));
}

TEST_CASE("ranks whose rows differ in length are told so", "[rows]") {
  std::atomic<int> told = 0;
  try {
    on_ranks(2, [&](group& g) {
      communicator<HostPinned, Auto, Cpu> comm{g};
      std::vector<float> x(12);
      std::vector<float> y(12);
      std::size_t const columns = g.rank() == 0 ? 3 : 4;
      try {
        allreduce(comm, x, Sum{}, add_rms_norm{x.data(), y.data(), y.data(), columns});
      } catch (error const& e) {
        told += e.code() == errc::mismatch ? 1 : 0;
        throw;
      }
    });
  } catch (error const&) {}
  REQUIRE(told == 2);
}
