// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/generator/mask.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <bitset>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace {

constexpr std::size_t tokens = 1000;
using words = std::vector<std::uint32_t>;

words words_of(std::bitset<tokens> const& bits) {
  words mask(tpx::mask_words(tokens));
  for (std::size_t t = 0; t < tokens; ++t) {
    if (bits[t]) { tpx::mask_allow(mask, static_cast<tpx::token_id>(t)); }
  }
  return mask;
}

std::bitset<tokens> random_bits(std::minstd_rand& random, unsigned one_in) {
  std::bitset<tokens> bits;
  for (std::size_t t = 0; t < tokens; ++t) { bits[t] = random() % one_in == 0; }
  return bits;
}

}  // namespace

TEST_CASE("bit t % 32 of word t / 32 stands for token t", "[mask]") {
  static_assert(tpx::mask_words(0) == 0 && tpx::mask_words(32) == 1 && tpx::mask_words(33) == 2);
  std::array<std::int32_t, 3> foreign{};
  auto const mask = tpx::as_mask(std::span{foreign});
  tpx::mask_allow(mask, 0);
  tpx::mask_allow(mask, 31);
  tpx::mask_allow(mask, 70);
  REQUIRE(foreign == std::array<std::int32_t, 3>{INT32_MIN + 1, 0, 64});
  REQUIRE(tpx::mask_allows(mask, 31));
  REQUIRE(!tpx::mask_allows(mask, 32));
  REQUIRE(!tpx::mask_allows(mask, 96));
  REQUIRE(!tpx::mask_allows(mask, -1));
  tpx::mask_forbid(mask, 31);
  REQUIRE(foreign == std::array<std::int32_t, 3>{1, 0, 64});
  REQUIRE(tpx::as_mask(std::span<std::int32_t const>{foreign})[2] == 64);
}

TEST_CASE("masks are joined, counted and found empty as sets of tokens are", "[mask]") {
  std::minstd_rand random{1};
  for (unsigned const one_in : {1u, 2u, 50u, 2000u}) {
    for (int i = 0; i < 50; ++i) {
      auto const a = random_bits(random, one_in);
      auto const b = random_bits(random, one_in);
      auto mask = words_of(a);
      REQUIRE(tpx::mask_count(mask) == a.count());
      REQUIRE(tpx::mask_empty(mask) == a.none());
      tpx::mask_and(mask, words_of(b));
      REQUIRE(mask == words_of(a & b));
    }
  }
}

TEST_CASE("a mask is empty if no word of any place has a bit", "[mask]") {
  words mask(tpx::mask_words(tokens));
  REQUIRE(tpx::mask_empty({}));
  REQUIRE(tpx::mask_empty(mask));
  for (tpx::token_id t = 0; t < static_cast<tpx::token_id>(tokens); ++t) {
    tpx::mask_allow(mask, t);
    REQUIRE(!tpx::mask_empty(mask));
    tpx::mask_forbid(mask, t);
  }
}

TEST_CASE("what a shorter mask says nothing about is forbidden", "[mask]") {
  words mask(4, ~0u);
  tpx::mask_and(mask, words{5u, ~0u});
  REQUIRE(mask == words{5u, ~0u, 0u, 0u});
  tpx::mask_and(mask, words(9, 1u));
  REQUIRE(mask == words{1u, 1u, 0u, 0u});
}

TEST_CASE("all tokens of a vocabulary, and none past it, are allowed at once", "[mask]") {
  for (std::size_t const size : {0u, 1u, 31u, 32u, 33u, 64u, 95u, 96u}) {
    words mask(3, 0xdeadbeef);
    tpx::mask_allow_all(mask, size);
    REQUIRE(tpx::mask_count(mask) == size);
    for (std::size_t t = 0; t < 96; ++t) {
      REQUIRE(tpx::mask_allows(mask, static_cast<tpx::token_id>(t)) == (t < size));
    }
  }
}
