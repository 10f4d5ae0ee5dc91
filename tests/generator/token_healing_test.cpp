// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "generator/naive_text.hpp"

#include <tpx/generator/token_healing.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using tpx::text_pieces;
using tpx::token_healing;
using tpx::token_id;

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr unsigned rounds = 100;
#else
constexpr unsigned rounds = 2000;
#endif

struct word_list {
  std::vector<std::string> words;

  [[nodiscard]] std::size_t size() const { return words.size(); }
  [[nodiscard]] std::string_view piece(token_id t) const {
    return words[static_cast<std::size_t>(t)];
  }
};

using healer = token_healing<word_list>;

std::set<token_id> allowed(healer const& healing, std::size_t tokens) {
  std::vector<std::uint32_t> mask((tokens + 31) / 32 + 1, 0xdeadbeefu);
  healing.fill(mask);
  std::set<token_id> all;
  for (std::size_t t = 0; t < 32 * mask.size(); ++t) {
    if ((mask[t / 32] >> (t % 32) & 1) != 0) { all.insert(static_cast<token_id>(t)); }
  }
  return all;
}

/// Whether tokens of the list, one after the other, can begin with `rest`.
bool can_spell(word_list const& list, std::string_view rest) {
  if (rest.empty()) { return true; }
  return std::any_of(list.words.begin(), list.words.end(), [&](std::string const& word) {
    return word.starts_with(rest) ||
           (!word.empty() && rest.starts_with(word) && can_spell(list, rest.substr(word.size())));
  });
}

std::set<token_id> may_come(word_list const& list, std::string_view rest) {
  std::set<token_id> all;
  for (std::size_t t = 0; t < list.size(); ++t) {
    auto const& word = list.words[t];
    if (rest.empty() || word.starts_with(rest) ||
        (!word.empty() && rest.starts_with(word) && can_spell(list, rest.substr(word.size())))) {
      all.insert(static_cast<token_id>(t));
    }
  }
  return all;
}

/// Heals a random prompt by random tokens, some taken back, and compares with a look at all tokens.
void compare(unsigned seed) {
  std::mt19937 random{seed};
  auto const upto = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::string_view const alphabet = upto(2) == 0 ? "abc" : "a\xc3\xa4\xe2\x82\xac";
  word_list list;
  for (auto n = 3 + upto(60); n > 0; --n) {
    std::string word;
    for (auto m = upto(5); m > 0; --m) { word += alphabet[upto(alphabet.size())]; }
    list.words.push_back(word);
  }
  text_pieces<word_list> const pieces{list};
  std::vector<token_id> prompt;
  for (auto n = 1 + upto(8); n > 0; --n) {
    prompt.push_back(static_cast<token_id>(upto(list.size())));
  }
  healer healing{pieces, prompt, 1 + upto(2)};

  std::string dropped;
  for (auto i = healing.kept(); i < prompt.size(); ++i) { dropped += list.piece(prompt[i]); }
  REQUIRE(healing.prefix() == dropped);
  REQUIRE(healing.kept() >= 1);
  std::vector<token_id> chosen;
  for (int n = 0; n < 12; ++n) {
    std::string text;
    for (auto const token : chosen) { text += list.piece(token); }
    auto const rest = dropped.substr(std::min(text.size(), dropped.size()));
    INFO("seed " << seed << ", \"" << rest << "\" of \"" << dropped << '"');
    REQUIRE(healing.finished() == rest.empty());
    auto const may = may_come(list, rest);
    REQUIRE(allowed(healing, list.size()) == may);
    REQUIRE_FALSE(may.empty());
    for (std::size_t t = 0; t < list.size() && n < 3; ++t) {
      auto const token = static_cast<token_id>(t);
      REQUIRE(healing.repeated(token) == std::min(rest.size(), list.words[t].size()));
      if (!may.contains(token)) { REQUIRE_THROWS_AS(healing.accept(token), tpx::error); }
    }
    auto const token = *std::next(may.begin(), static_cast<std::ptrdiff_t>(upto(may.size())));
    healing.accept(token);
    chosen.push_back(token);
    if (upto(4) == 0) {
      auto const back = upto(chosen.size() + 1);
      healing.rewind(back);
      chosen.resize(chosen.size() - back);
    }
  }
}

}  // namespace

TEST_CASE("Healing allows what can go on with the dropped bytes, and all of it", "[healing]") {
  for (unsigned seed = 0; seed < rounds; ++seed) { compare(seed); }
}

TEST_CASE("A URL is healed", "[healing]") {
  word_list const list{{"<s>", "http", ":", "://", "/", "s", ":/", "x"}};
  text_pieces<word_list> const pieces{list};
  healer healing{pieces, std::vector<token_id>{0, 1, 2}};
  REQUIRE(healing.kept() == 2);
  REQUIRE(healing.prefix() == ":");
  REQUIRE(allowed(healing, list.size()) == std::set<token_id>{2, 3, 6});
  REQUIRE(healing.repeated(3) == 1);
  healing.accept(3);
  REQUIRE(healing.finished());
  REQUIRE(healing.repeated(3) == 0);
}

TEST_CASE("Healing cuts no character, and leaves tokens without bytes and the first one",
          "[healing]") {
  word_list const list{{"", "a\xe2", "\x82", "\xac", "b"}};
  text_pieces<word_list> const pieces{list};
  auto const kept = [&](std::vector<token_id> const& prompt, std::size_t count) {
    return healer{pieces, prompt, count}.kept();
  };
  REQUIRE(kept({4, 1, 2, 3}, 1) == 1);
  REQUIRE(kept({4, 4, 1, 2, 3}, 1) == 2);
  REQUIRE(kept({4, 4, 4}, 2) == 1);
  REQUIRE(kept({4, 4, 4}, 9) == 1);
  REQUIRE(kept({4, 0, 4}, 2) == 2);
  REQUIRE(kept({4, 0}, 1) == 2);
  REQUIRE(kept({4}, 1) == 1);
  REQUIRE(kept({}, 1) == 0);
  REQUIRE(kept({4, 4}, 0) == 2);
}

TEST_CASE("Healing refuses what it does not know", "[healing]") {
  word_list const list{{"a", "ab", "b"}};
  text_pieces<word_list> const pieces{list};
  REQUIRE_THROWS_AS(healer(pieces, std::vector<token_id>{0, 3}), tpx::error);
  REQUIRE_THROWS_AS(healer(pieces, std::vector<token_id>{0, -1}), tpx::error);
  healer healing{pieces, std::vector<token_id>{0, 1}};
  REQUIRE_THROWS_AS(healing.accept(3), tpx::error);
  REQUIRE_THROWS_AS(healing.rewind(1), tpx::error);
  REQUIRE_THROWS_AS(healing.fill({}), tpx::error);
  healing.accept(0);
  healing.accept(2);
  healing.accept(0);
  REQUIRE(healing.finished());
  healing.rewind(2);
  REQUIRE_FALSE(healing.finished());
}
