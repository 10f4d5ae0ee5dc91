// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "generator/naive_text.hpp"

#include <tpx/generator/matcher.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

using tpx::matcher;
using tpx::text_action;
using tpx::text_pattern;

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int rounds = 60;
#else
constexpr int rounds = 600;
#endif

constexpr std::array<std::string_view, 4> alphabets{"ab", "aAb", "aAbB", "\xc3\xa4\xb6"};

/// Patterns over an alphabet, many of them parts of one another; `words` keeps their bytes.
naive::pattern_list random_patterns(std::mt19937& random, std::string_view alphabet,
                                    std::size_t scopes, std::vector<std::string>& words) {
  auto const upto = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  words.clear();
  for (std::size_t i = 1 + upto(5); i > 0; --i) {
    std::string word;
    if (!words.empty() && upto(2) == 0) {
      auto const& other = words[upto(words.size())];
      word = other.substr(upto(other.size()));
    }
    for (std::size_t n = upto(3) + (word.empty() ? 1 : 0); n > 0; --n) {
      word += alphabet[upto(alphabet.size())];
    }
    words.push_back(word.substr(0, 4));
  }
  naive::pattern_list patterns;
  for (auto const& word : words) {
    auto const kind = upto(scopes > 1 ? 3 : 2);
    patterns.push_back({.text = word,
                        .action = static_cast<text_action>(kind),
                        .ignore_case = upto(2) == 0,
                        .scopes = scopes > 1 ? static_cast<std::uint32_t>(random()) : 1u,
                        .enters = static_cast<std::uint32_t>(upto(scopes))});
  }
  return patterns;
}

void compare(int times, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<std::string> words;
  for (int round = 0; round < times; ++round) {
    auto const alphabet = alphabets[random() % alphabets.size()];
    std::size_t const scopes = 1 + random() % 3;
    auto const patterns = random_patterns(random, alphabet, scopes, words);
    matcher const m{patterns, scopes};
    std::string listed;
    for (auto const& p : patterns) {
      listed += "\n  " + std::string{p.text} + " action " + std::to_string(int(p.action)) +
                (p.ignore_case ? " any case" : "") + " scopes " + std::to_string(p.scopes % 8) +
                " enters " + std::to_string(p.enters);
    }
    naive::scoped text{static_cast<std::uint32_t>(random() % scopes), ""};
    auto state = m.start(text.scope);
    for (int n = 0; n < 30; ++n) {
      char const byte = random() % 50 == 0 ? 'z' : alphabet[random() % alphabet.size()];
      state = m.next(state, byte);
      auto const found = naive::add(text, byte, patterns);
      INFO("round " << round << ", text " << text.text << " of scope " << text.scope << listed);
      REQUIRE(matcher::matched(state) == found.has_value());
      if (found) {
        REQUIRE(matcher::pattern(state) == *found);
        REQUIRE(m.length(*found) == patterns[*found].text.size());
        REQUIRE(m.action(*found) == patterns[*found].action);
        text.text.clear();
        state = m.start(text.scope);
        continue;
      }
      auto const depth = [&](text_action action) {
        return naive::depth(text, patterns, action, alphabet[0] == 'a' ? "aAbB" : alphabet, 4);
      };
      REQUIRE(m.stop_depth(state) == depth(text_action::Stop));
      REQUIRE(m.ban_depth(state) == depth(text_action::Ban));
      REQUIRE(m.depth(state) == std::max(m.stop_depth(state), m.ban_depth(state)));
    }
  }
}

std::size_t find(matcher const& m, std::string_view text) {
  auto state = m.start();
  auto const taken = m.run(state, text);
  return matcher::matched(state) ? taken : 0;
}

}  // namespace

TEST_CASE("A matcher finds what a search of the whole text finds, and holds back no byte more",
          "[matcher]") {
  compare(rounds, 1);
}

TEST_CASE("A matcher finds what a search finds, for long", "[.long][matcher]") {
  for (unsigned seed = 2; seed < 102; ++seed) { compare(rounds, seed); }
}

TEST_CASE("A matcher without patterns finds nothing", "[matcher]") {
  matcher const m;
  REQUIRE(find(m, "anything") == 0);
  REQUIRE(m.depth(m.start()) == 0);
}

TEST_CASE("Case is ignored of ASCII letters alone", "[matcher]") {
  matcher const m{std::vector<text_pattern>{{.text = "\xc3\x84z[", .ignore_case = true}}};
  REQUIRE(find(m, "..\xc3\x84Z[") == 6);
  REQUIRE(find(m, "..\xc3\xa4z[") == 0);
  REQUIRE(find(m, "..\xc3\x84z{") == 0);
}

TEST_CASE("A pattern that another one forestalls holds nothing back", "[matcher]") {
  matcher const m{std::vector<text_pattern>{{.text = "long b tail"}, {.text = "b"}}};
  auto state = m.start();
  m.run(state, "long ");
  REQUIRE(m.depth(state) == 0);

  matcher const cased{
    std::vector<text_pattern>{{.text = "abc", .ignore_case = true}, {.text = "b"}}};
  state = cased.start();
  cased.run(state, "xa");
  REQUIRE(cased.depth(state) == 1);  // aBc
}

TEST_CASE("What a thousand patterns cost a byte is what one costs", "[matcher]") {
  std::vector<std::string> words;
  std::mt19937 random{7};
  for (int i = 0; i < 1000; ++i) {
    std::string word;
    for (int n = 0; n < 15; ++n) { word += static_cast<char>('a' + random() % 26); }
    words.push_back(word);
  }
  std::vector<text_pattern> patterns{{.text = "\nUser:"}, {.text = "abcQ"}};
  for (auto const& word : words) {
    patterns.push_back({.text = word, .action = text_action::Ban, .ignore_case = true});
  }
  matcher const m{patterns};
  REQUIRE(m.bytes() < 6'000'000);  // 15,000 states of 58 bytes' classes
  REQUIRE(find(m, "..\nUser:") == 8);
  REQUIRE(find(m, ".." + words[999]) == 17);
}

TEST_CASE("A matcher refuses patterns that make no sense", "[matcher]") {
  auto const made = [](text_pattern const& p, std::size_t scopes) {
    matcher const m{std::vector{p}, scopes};
  };
  REQUIRE_NOTHROW(made({.text = "x"}, 1));
  REQUIRE_THROWS_AS(made({.text = ""}, 1), tpx::error);
  REQUIRE_THROWS_AS(made({.text = "x"}, 0), tpx::error);
  REQUIRE_THROWS_AS(made({.text = "x"}, 33), tpx::error);
  REQUIRE_THROWS_AS(made({.text = "x", .action = text_action::Enter, .enters = 2}, 2), tpx::error);
}
