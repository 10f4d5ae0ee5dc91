// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/generator/page_windows.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace {

using tpx::page_copy;
using tpx::page_id;

constexpr std::size_t page_size = 3;
constexpr std::size_t width = 4;
using cache = std::vector<int>;

cache numbered(std::size_t pages) {
  cache all(pages * page_size);
  for (std::size_t i = 0; i < all.size(); ++i) { all[i] = static_cast<int>(i); }
  return all;
}

void one_after_the_other(cache& all, std::span<page_copy const> list) {
  for (auto const& [from, to, tokens] : list) {
    for (std::size_t i = 0; i < tokens; ++i) {
      all[to * page_size + i] = all[from * page_size + i];
    }
  }
}

// Of a window, all is read before anything is written. Returns how many windows there were.
std::size_t in_windows(cache& all, std::span<page_copy const> list) {
  std::size_t windows = 0;
  while (!list.empty()) {
    tpx::detail::page_windows<12, width> taken;
    list = list.subspan(taken.take(list));
    REQUIRE(taken.count % width == 0);
    REQUIRE(taken.count <= 12);
    std::uint32_t most = 0;
    for (std::size_t w = 0; w < taken.count; w += width, ++windows) {
      auto const before = all;
      for (std::size_t i = w; i < w + width; ++i) {
        auto const& [from, to, tokens] = taken.copies[i];
        most = std::max(most, tokens);
        for (std::size_t t = 0; t < tokens; ++t) {
          all[to * page_size + t] = before[from * page_size + t];
        }
      }
    }
    REQUIRE(most == taken.most);
  }
  return windows;
}

}  // namespace

TEST_CASE("copies in windows leave what they leave one after the other", "[pages]") {
  std::mt19937 random{4};
  for (int round = 0; round < 5000; ++round) {
    std::size_t const pages = 2 + random() % 9;
    std::vector<page_copy> list(random() % 40);
    for (auto& c : list) {
      c = {static_cast<page_id>(random() % pages), static_cast<page_id>(random() % pages),
           random() % (page_size + 1)};
    }
    auto expected = numbered(pages);
    one_after_the_other(expected, list);
    auto found = numbered(pages);
    (void)in_windows(found, list);
    REQUIRE(found == expected);
  }
}

TEST_CASE("pages that go round with a spare one fill their windows", "[pages]") {
  // 0 -> 9, then 1 -> 0, 2 -> 1, ..., 8 -> 7, and 9 -> 8.
  std::vector<page_copy> list{{0, 9, page_size}};
  for (page_id page = 1; page < 9; ++page) { list.push_back({page, page - 1, page_size}); }
  list.push_back({9, 8, page_size});
  auto expected = numbered(10);
  one_after_the_other(expected, list);
  auto found = numbered(10);
  CHECK(in_windows(found, list) == 3);
  CHECK(found == expected);
}

TEST_CASE("copies that change nothing take no room", "[pages]") {
  std::vector<page_copy> const list(100, {3, 3, 1});
  std::vector<page_copy> const empty(100, {1, 2, 0});
  auto all = numbered(4);
  CHECK(in_windows(all, list) == 0);
  CHECK(in_windows(all, empty) == 0);
  CHECK(all == numbered(4));
}
