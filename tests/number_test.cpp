// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/number.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

using tpx::float8_e4m3;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint32_t step = 4099;
#else
constexpr std::uint32_t step = 257;  // an odd one, which meets every value of the low bits
#endif

float8_e4m3 of_bits(unsigned bits) {
  float8_e4m3 v;
  v.bits = static_cast<std::uint8_t>(bits);
  return v;
}

/// What the specification says that a byte is: (-1)^s 2^(e-7) 1.f, or 2^-6 0.f where e is 0.
double meant(unsigned bits) {
  int const e = static_cast<int>(bits >> 3 & 15);
  double const f = bits & 7;
  double const v = e == 0 ? std::ldexp(f, -9) : std::ldexp(8 + f, e - 10);
  if ((bits & 0x7f) == 0x7f) { return std::numeric_limits<double>::quiet_NaN(); }
  return (bits & 0x80) != 0 ? -v : v;
}

/// The byte nearest to a number that is not negative; of two as near, that of the even fraction.
unsigned nearest(double v) {
  static std::vector<double> const all = [] {
    std::vector<double> values;
    for (unsigned b = 0; b < 0x7f; ++b) { values.push_back(meant(b)); }
    return values;
  }();
  auto const above = std::lower_bound(all.begin(), all.end(), v);
  if (above == all.begin()) { return 0; }
  if (above == all.end()) { return 0x7e; }
  auto const b = static_cast<unsigned>(above - all.begin());
  double const up = *above - v;
  double const down = v - all[b - 1];
  return up < down || (up == down && b % 2 == 0) ? b : b - 1;
}

float float_of(std::uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

/// "" if the float with these bits becomes the byte that it should.
std::string wrong(std::uint32_t bits) {
  float const v = float_of(bits);
  unsigned want = 0x7f;
  if (!std::isnan(v)) {
    want = nearest(std::abs(static_cast<double>(v))) | (std::signbit(v) ? 0x80u : 0u);
  }
  unsigned const got = float8_e4m3{v}.bits;
  return got == want ? ""
                     : std::to_string(v) + " became " + std::to_string(got) + ", not " +
                         std::to_string(want) + '\n';
}

}  // namespace

TEST_CASE("every byte of float8_e4m3 is the number that the format says, and comes back",
          "[number]") {
  for (unsigned b = 0; b < 256; ++b) {
    auto const v = static_cast<float>(of_bits(b));
    if (std::isnan(meant(b))) {
      REQUIRE(std::isnan(v));
      REQUIRE(float8_e4m3{v}.bits == 0x7f);
    } else {
      REQUIRE(static_cast<double>(v) == meant(b));
      REQUIRE(std::signbit(v) == ((b & 0x80) != 0));
      REQUIRE(float8_e4m3{v}.bits == b);
    }
  }
}

TEST_CASE("a float becomes the nearest float8_e4m3, at most 448, and a NaN stays one", "[number]") {
  std::string all;
  for (std::uint64_t bits = 0; bits <= 0xffffffffu && all.size() < 1000; bits += step) {
    all += wrong(static_cast<std::uint32_t>(bits));
  }
  // Around every border between two bytes, where rounding turns.
  for (unsigned b = 0; b < 0x7e; ++b) {
    auto const middle = static_cast<float>((meant(b) + meant(b + 1)) / 2);
    std::uint32_t at = 0;
    std::memcpy(&at, &middle, sizeof at);
    for (std::uint32_t d = 0; d < 5; ++d) {
      all += wrong(at - 2 + d);
      all += wrong((at - 2 + d) | 0x80000000u);
    }
  }
  for (float const v : {448.0f, 449.0f, 464.0f, 480.0f, 1e30f, HUGE_VALF}) {
    REQUIRE(float8_e4m3{v}.bits == 0x7e);
    REQUIRE(float8_e4m3{-v}.bits == 0xfe);
  }
  REQUIRE(all == "");
}

TEST_CASE("all floats become the float8_e4m3 that they should", "[.long][number]") {
  std::string all;
  for (std::uint64_t bits = 0; bits <= 0xffffffffu && all.size() < 1000; ++bits) {
    all += wrong(static_cast<std::uint32_t>(bits));
  }
  REQUIRE(all == "");
}

TEST_CASE("float8_e4m3 is computed at compile time as it is at run time", "[number]") {
  static_assert(float8_e4m3{1.0f}.bits == 0x38);
  static_assert(static_cast<float>(float8_e4m3{-0.0625f}) == -0.0625f);
  static_assert(float8_e4m3{0x1p-10f}.bits == 0 && float8_e4m3{0x1.8p-9f}.bits == 2);
  REQUIRE(std::string{tpx::name(tpx::dtype_of<float8_e4m3>())} == "float8_e4m3");
}
