// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "generator/naive_text.hpp"

#include <tpx/generator/utf8.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <random>
#include <string>
#include <string_view>

namespace {

/// Bytes at which UTF-8's rules change.
std::string random_bytes(std::mt19937& random, std::size_t length) {
  constexpr std::string_view bytes{
    "a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5"
    "\xff"};
  std::string text;
  while (text.size() < length) { text += bytes[random() % bytes.size()]; }
  return text;
}

std::string valid(std::string_view text) {
  std::string out;
  tpx::append_valid_utf8(out, text);
  return out;
}

}  // namespace

TEST_CASE("What is pending is the beginning of a character", "[utf8]") {
  std::mt19937 random{1};
  for (int n = 0; n < 100'000; ++n) {
    auto const text = random_bytes(random, random() % 6);
    INFO(n);
    REQUIRE(tpx::incomplete_utf8(text) == naive::unfinished(text));
  }
}

TEST_CASE("Every character is whole at its last byte, and passes", "[utf8]") {
  bool same = true;
  for (auto const& character : naive::characters()) {
    same = same && tpx::incomplete_utf8(character) == 0 && valid(character) == character;
  }
  REQUIRE(same);
  for (auto const& beginning : naive::character_beginnings()) {
    REQUIRE(tpx::incomplete_utf8("." + beginning) == beginning.size());
    REQUIRE(valid("." + beginning + ".") == ".\xef\xbf\xbd.");
  }
}

TEST_CASE("Bytes that are no UTF-8 become U+FFFD as Unicode recommends", "[utf8]") {
  std::string const r = "\xef\xbf\xbd";
  // Unicode 15, tables 3-8 to 3-11
  REQUIRE(valid("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41") == r + r + r + r + r + r + r + r + "A");
  REQUIRE(valid("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41") == r + r + r + r + r + r + r + r + "A");
  REQUIRE(valid("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42") == r + r + r + r + r + "A" + r + r + "B");
  REQUIRE(valid("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41") == r + r + r + r + "A");
  REQUIRE(valid("plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80") ==
          "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST_CASE("A text cut between characters is mended as its whole is", "[utf8]") {
  std::mt19937 random{2};
  for (int n = 0; n < 20'000; ++n) {
    auto const text = random_bytes(random, 8);
    std::string parts;
    std::size_t from = 0;
    for (std::size_t to = 0; to <= text.size(); ++to) {
      bool const end = to == text.size();
      if (!end && (tpx::incomplete_utf8(text.substr(0, to)) > 0 || random() % 2 == 0)) { continue; }
      tpx::append_valid_utf8(parts, text.substr(from, to - from));
      from = to;
    }
    REQUIRE(parts == valid(text));
    REQUIRE(valid(parts) == parts);
  }
}
