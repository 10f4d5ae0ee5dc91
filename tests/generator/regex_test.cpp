// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "vocabularies.hpp"

#include <tpx/generator/filter.hpp>
#include <tpx/generator/regex_filter.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdio>
#include <regex>

namespace {

using namespace vocabularies;

static_assert(tpx::filter<tpx::regex_filter>);

std::shared_ptr<tpx::token_trie const> bytes_only() {
  rng none{1};
  static auto const trie = std::make_shared<tpx::token_trie const>(some(none, {"a"}, {}, 0));
  return trie;
}

/// Whether the filter takes the text, byte by byte, and is finished.
bool matches(tpx::regex_filter filter, std::string_view text) {
  for (char const c : text) {
    try {
      filter.accept(2 + static_cast<unsigned char>(c));
    } catch (tpx::error const&) { return false; }
  }
  return filter.finished();
}

bool matches(std::string_view expression, std::string_view text) {
  return matches(tpx::regex_filter{bytes_only(), expression}, text);
}

/// An expression over a, b, c that both dialects know.
std::string random_expression(rng& from, int depth) {
  auto const inner = [&] { return random_expression(from, depth - 1); };
  switch (below(from, depth > 0 ? 12 : 5)) {
    case 0:
    case 1:
      return std::string(1, static_cast<char>('a' + below(from, 3)));
    case 2:
      return ".";
    case 3:
      return below(from, 2) == 0 ? "[ab]" : "[^a]";
    case 4:
      return below(from, 2) == 0 ? "[a-b]" : "\\w";
    case 5:
      return "(" + inner() + "|" + inner() + ")";
    case 6:
      return "(?:" + inner() + ")*";
    case 7:
      return "(?:" + inner() + ")+";
    case 8:
      return "(?:" + inner() + ")?";
    case 9:
      return "(?:" + inner() + "){" + std::to_string(below(from, 3)) + "," +
             std::to_string(2 + below(from, 2)) + "}";
    default:
      return inner() + inner();
  }
}

std::string random_text(rng& from) {
  std::string text;
  for (auto n = below(from, 9); n > 0; --n) { text += static_cast<char>('a' + below(from, 3)); }
  return text;
}

}  // namespace

TEST_CASE("an expression matches what std::regex says it matches", "[regex]") {
  rng from{1};
  std::size_t matched = 0;
  for (int i = 0; i < (sanitized ? 150 : 1500); ++i) {
    auto const expression = random_expression(from, 3);
    INFO(expression);
    std::regex const oracle{expression};
    tpx::regex_filter const filter{bytes_only(), expression};
    for (int n = 0; n < 15; ++n) {
      auto const text = random_text(from);
      INFO(text);
      bool const expected = std::regex_match(text, oracle);
      REQUIRE(matches(filter, text) == expected);
      matched += expected ? 1u : 0u;
    }
  }
  REQUIRE(matched > 100);
}

TEST_CASE("all of the dialect means what it says", "[regex]") {
  REQUIRE(matches("", ""));
  REQUIRE(matches("a||b", ""));
  REQUIRE(matches("^ab$|^c$", "ab"));
  REQUIRE(matches("^ab$|^c$", "c"));
  REQUIRE(matches(R"(\d{3}-\d{4})", "555-1234"));
  REQUIRE(!matches(R"(\d{3}-\d{4})", "555-123"));
  REQUIRE(matches(R"([\w.+-]+@[\w-]+\.(?:com|org))", "a.b+c@d-e.org"));
  REQUIRE(matches(R"(\x41\u0042\u{43}\t\n\r\f\v\0)", std::string_view{"ABC\t\n\r\f\v\0", 9}));
  REQUIRE(matches(R"(\.\*\\\[\]\(\)\{\}\^\$\|\/\-)", R"(.*\[](){}^$|/-)"));
  REQUIRE(matches(R"([\]\-a^]*)", "]-a^"));
  REQUIRE(matches("[^]", "\n"));
  REQUIRE(matches("[-a]+[b-]+", "a-b-"));
  REQUIRE(matches(R"([^\D5]+)", "12346789"));
  REQUIRE(!matches(R"([^\D5]+)", "5"));
  REQUIRE(matches(R"(\S+\s\W)", "ab\u3000!"));
  REQUIRE(matches("a{2}", "aa"));
  REQUIRE(matches("a{2,}?", "aaaaa"));
  REQUIRE(matches("a{0}b", "b"));
  REQUIRE(matches("(?:a{0,2}b){2}", "abaab"));
  REQUIRE(!matches("a{2,3}", "aaaa"));
  REQUIRE(!matches(".", "\n"));
}

TEST_CASE(". and classes match whole characters, and well-formed ones only", "[regex]") {
  for (std::string const text : {"a", "é", "€", "😀", "\u07ff", "\u0800", "\uffff", "\U0010ffff"}) {
    INFO(text);
    REQUIRE(matches(".", text));
    REQUIRE(matches("[^x]", text));
    REQUIRE(!matches("..", text));
    for (std::size_t n = 1; n < text.size(); ++n) { REQUIRE(!matches(".", text.substr(0, n))); }
  }
  for (std::string_view const text :
       {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"}) {
    REQUIRE(!matches("[^]", text));
  }
  REQUIRE(matches("[α-ω]+", "λογος"));
  REQUIRE(!matches("[α-ω]+", "λoγ"));
  REQUIRE(matches("[\\u{1f600}-\\u{1f64f}]é?", "😀é"));
}

TEST_CASE("each code point is matched by the ranges that hold it", "[regex]") {
  rng from{3};
  auto const hex = [](char32_t c) {
    char text[16];
    std::snprintf(text, sizeof(text), "\\u{%x}", static_cast<unsigned>(c));
    return std::string{text};
  };
  for (int i = 0; i < (sanitized ? 50 : 500); ++i) {
    auto const any = [&] {
      constexpr char32_t ends[]{0x7f,   0x80,   0x7ff,  0x800,   0xfff,
                                0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff};
      return below(from, 2) == 0 ? ends[below(from, 10)]
                                 : static_cast<char32_t>(below(from, 0x110000));
    };
    auto const a = any();
    auto const b = any();
    auto const [first, last] = std::minmax(a, b);
    tpx::regex_filter const filter{bytes_only(), "[" + hex(first) + "-" + hex(last) + "]"};
    for (auto const near : {first, last, any(), any()}) {
      for (int shift = -1; shift <= 1; ++shift) {
        auto const c = static_cast<std::int64_t>(near) + shift;
        if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) { continue; }
        std::string text;
        tpx::detail::write_char(text, static_cast<char32_t>(c));
        REQUIRE(matches(filter, text) == (c >= first && c <= last));
      }
    }
  }
}

TEST_CASE("a mask has the tokens that fit and no others", "[regex]") {
  rng from{4};
  std::vector<std::string> const units{"a",    "b",    "c", "ab", " ", "é",
                                       "\xc3", "\xa9", "😀", "1",  "\""};
  auto const vocabulary = some(from, units, {"abc", "aaaa"}, 400);
  auto const trie = std::make_shared<tpx::token_trie const>(vocabulary);
  std::vector<std::string> expressions{
    "(ab|c)*é+", ".*",           "[^\"]{3,20}",     "(.|\n){5}",
    "[^]*",      "\\w+( \\w+)*", "(a|b)*a(a|b){8}", "[^\"\\\\\\u0000-\\u001f]*\"?"};
  for (int i = 0; i < (sanitized ? 3 : 30); ++i) {
    expressions.push_back(random_expression(from, 4));
  }
  for (auto const& expression : expressions) {
    INFO(expression);
    tpx::regex_filter filter{trie, expression, {.end_tokens = {0}}};
    for (int step = 0; step < 12; ++step) {
      auto const mask = mask_of(filter, vocabulary.size());
      REQUIRE(mask == brute_mask(filter, vocabulary.size()));
      REQUIRE(tpx::mask_allows(mask, 0) == filter.finished());
      auto const next = any_of(mask, from);
      if (next <= 0) { break; }
      filter.accept(next);
    }
  }
}

TEST_CASE("a text that the masks led to matches", "[regex]") {
  rng from{5};
  auto const vocabulary = some(from, {"a", "b", "c"}, {}, 100);
  auto const trie = std::make_shared<tpx::token_trie const>(vocabulary);
  std::size_t ended = 0;
  for (int i = 0; i < (sanitized ? 60 : 200); ++i) {
    auto const expression = random_expression(from, 3);
    std::regex const oracle{expression};
    tpx::regex_filter filter{trie, expression, {.end_tokens = {0}}};
    std::string text;
    for (int step = 0; step < 100; ++step) {
      auto const next = any_of(mask_of(filter, vocabulary.size()), from);
      REQUIRE(next >= 0);
      filter.accept(next);
      if (next == 0) { break; }
      text += vocabulary.piece(next);
    }
    if (!filter.finished() || text.find_first_not_of("abc") != text.npos) { continue; }
    INFO(expression << " " << text);
    REQUIRE(std::regex_match(text, oracle));
    ++ended;
  }
  REQUIRE(ended > 10);
}

TEST_CASE("after the end nothing may come, and going back opens it again", "[regex]") {
  tpx::regex_filter filter{bytes_only(), "ab?", {.end_tokens = {0}}};
  REQUIRE(!filter.finished());
  REQUIRE_THROWS_AS(filter.accept(0), tpx::error);
  filter.accept(2 + 'a');
  REQUIRE(filter.finished());
  filter.accept(0);
  REQUIRE(filter.finished());
  REQUIRE(tpx::mask_empty(mask_of(filter, 258)));
  REQUIRE_THROWS_AS(filter.accept(2 + 'b'), tpx::error);
  filter.rewind(1);
  filter.accept(2 + 'b');
  REQUIRE(tpx::mask_count(mask_of(filter, 258)) == 1);
  filter.rewind(2);
  REQUIRE(!filter.finished());
  REQUIRE(tpx::mask_allows(mask_of(filter, 258), 2 + 'a'));
  REQUIRE_THROWS_AS(filter.rewind(1), tpx::error);
}

TEST_CASE("memory stays bounded, and what was forgotten changes nothing", "[regex]") {
  // The deterministic automaton has 2^20 states.
  rng from{6};
  auto const vocabulary = some(from, {"a", "b"}, {}, 60);
  auto const trie = std::make_shared<tpx::token_trie const>(vocabulary);
  constexpr std::size_t most = 200'000;
  tpx::regex_filter tight{trie, "(a|b)*a(a|b){20}", {.end_tokens = {0}, .max_bytes = most}};
  auto second = tight;
  tpx::regex_filter roomy{trie, "(a|b)*a(a|b){20}", {.end_tokens = {0}}};
  std::vector<tpx::token_id> tokens;
  for (int i = 0; i < (sanitized ? 40 : 300); ++i) {
    if (!tokens.empty() && below(from, 8) == 0) {
      auto const n = 1 + below(from, std::min<std::size_t>(tokens.size(), 9));
      for (auto* const f : {&tight, &second, &roomy}) { f->rewind(n); }
      tokens.resize(tokens.size() - n);
    }
    auto const mask = mask_of(roomy, vocabulary.size());
    REQUIRE(mask_of(tight, vocabulary.size()) == mask);
    if (i % 16 == 0) { REQUIRE(mask_of(second, vocabulary.size()) == mask); }
    auto const next = any_of(mask, from);
    if (next == 0) { continue; }
    for (auto* const f : {&tight, &second, &roomy}) { f->accept(next); }
    tokens.push_back(next);
    REQUIRE(tight.finished() == roomy.finished());
    REQUIRE(tight.grammar().bytes() < 2 * most);
  }
  REQUIRE(tight.grammar().generation() > 3);
}

TEST_CASE("what is wrong with an expression is told with its place", "[regex]") {
  auto const refusal = [](std::string_view expression) -> std::string {
    try {
      tpx::regex_filter const filter{bytes_only(), expression, {.max_states = 5000}};
    } catch (tpx::error const& e) {
      REQUIRE(e.code() == tpx::errc::invalid_argument);
      return e.what();
    }
    return "none";
  };
  auto const says = [&](std::string_view expression, std::string_view what) {
    INFO(expression << ": " << refusal(expression));
    return refusal(expression).find(what) != std::string::npos;
  };
  REQUIRE(says("a)", "byte 1: a ) that closes nothing"));
  REQUIRE(says("(a", "byte 2: a group without its )"));
  REQUIRE(says("[a", "byte 2: a class without its ]"));
  REQUIRE(says("[b-a]", "byte 4: a range whose last is before its first"));
  REQUIRE(says("[\\d-z]", "a range from or to a class"));
  REQUIRE(says("*a", "byte 0: a * without"));
  REQUIRE(says("a**", "byte 2: a * without"));
  REQUIRE(says("a{,3}", "byte 2: a { without a number"));
  REQUIRE(says("a{3,2}", "whose most is less"));
  REQUIRE(says("a{99999999999}", "a repetition of more than"));
  REQUIRE(says("a{2", "byte 3: a repetition without its }"));
  REQUIRE(says("(?=a)", "byte 2: a group of a kind"));
  REQUIRE(says("\\b", "byte 2: \\b is not supported"));
  REQUIRE(says("(a)\\1", "\\1 is not supported"));
  REQUIRE(says("\\", "byte 1: a \\ with nothing behind it"));
  REQUIRE(says("\\x4", "byte 3: a hexadecimal digit is missing"));
  REQUIRE(says("\\u{110000}", "over 10ffff"));
  REQUIRE(says("a$b", "byte 2: a $ before the end"));
  REQUIRE(says("(a$)", "byte 2: a $ inside a group"));
  REQUIRE(says("(^a)", "byte 1: a ^ without"));
  REQUIRE(says("a\xff", "byte 1: not UTF-8"));
  REQUIRE(says("[]", "no text fits"));
  REQUIRE(says("(a{1000}){1000}", "more than 5000 states"));
  REQUIRE(says(std::string(1000, '(') + std::string(1000, ')'), "groups more than 200 deep"));
}
