// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"

#include <tpx/generator/loop_detector.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

using tpx::loop_detector;
using tpx::loop_options;
using tpx::token_id;

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr unsigned rounds = 60;
#else
constexpr unsigned rounds = 600;
#endif

/// The shortest period of the last tokens, by comparing them.
std::size_t shortest(std::vector<token_id> const& tokens, loop_options const& o) {
  for (std::size_t period = 1; period <= o.max_period; ++period) {
    auto const length = std::max(period * o.repeats, o.min_tokens);
    if (length > tokens.size()) { continue; }
    bool loops = true;
    for (auto i = tokens.size() - length + period; i < tokens.size(); ++i) {
      loops = loops && tokens[i] == tokens[i - period];
    }
    if (loops) { return period; }
  }
  return 0;
}

/// Tokens that often go round in circles, and now and then are taken back; returns how many ended a
/// loop.
std::size_t compare(unsigned seed) {
  std::mt19937 random{seed};
  auto const upto = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  loop_options const options{.max_period = 1 + upto(40),
                             .repeats = 2 + upto(4),
                             .min_tokens = upto(2) * upto(60),
                             .max_rewind = upto(30)};
  loop_detector detector{options};
  std::vector<token_id> tokens;
  std::size_t circle = 1, found = 0, most = 0;
  for (int n = 0; n < 800; ++n) {
    if (upto(20) == 0) {
      auto const least = most - std::min(most, options.max_rewind);
      auto const back = upto(tokens.size() - least + 1);
      detector.rewind(back);
      tokens.resize(tokens.size() - back);
    }
    if (upto(60) == 0) { circle = 1 + upto(45); }
    bool const again = tokens.size() >= circle && upto(50) != 0;
    tokens.push_back(again ? tokens[tokens.size() - circle] : static_cast<token_id>(upto(3)));
    INFO("seed " << seed << ", token " << n);
    most = std::max(most, tokens.size());
    auto const period = detector.push(tokens.back());
    REQUIRE(period == shortest(tokens, options));
    found += period > 0;
  }
  return found;
}

}  // namespace

TEST_CASE("A loop is seen with the token that makes it one, and after any rewind", "[loop]") {
  std::size_t found = 0;
  for (unsigned seed = 0; seed < rounds; ++seed) { found += compare(seed); }
  REQUIRE(found > 50 * rounds);
}

TEST_CASE("Loops are seen, for long", "[.long][loop]") {
  for (unsigned seed = 0; seed < 200 * rounds; ++seed) { compare(1'000'000 + seed); }
}

TEST_CASE("A row of equal tokens is a loop only when it is long", "[loop]") {
  loop_detector detector{{.repeats = 4, .min_tokens = 20}};
  for (int n = 1; n < 20; ++n) { REQUIRE(detector.push(7) == 0); }
  REQUIRE(detector.push(7) == 1);
  REQUIRE(detector.push(8) == 0);
}

TEST_CASE("A loop detector refuses what it cannot do", "[loop]") {
  REQUIRE_THROWS_AS(loop_detector({.max_period = 0}), tpx::error);
  REQUIRE_THROWS_AS(loop_detector({.repeats = 1}), tpx::error);
  REQUIRE_THROWS_AS(loop_detector({.max_period = std::numeric_limits<std::size_t>::max()}),
                    tpx::error);
  loop_detector detector{{.max_rewind = 3}};
  detector.push(1);
  REQUIRE_THROWS_AS(detector.rewind(2), tpx::error);
  for (int n = 0; n < 3000; ++n) {
    detector.push(n);
    detector.rewind(1);
    detector.push(n);
  }
  detector.rewind(3);
}

TEST_CASE("A token of a loop detector allocates nothing", "[loop]") {
  loop_detector detector;
  auto const count = allocations;
  for (int n = 0; n < 10'000; ++n) {
    detector.push(n % 50);
    if (n % 100 == 99) { detector.rewind(20); }
  }
  REQUIRE(allocations == count);
}
