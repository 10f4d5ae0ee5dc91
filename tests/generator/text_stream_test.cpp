// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"
#include "generator/naive_text.hpp"

#include <tpx/generator/text_stream.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using tpx::matcher;
using tpx::text_action;
using tpx::text_end;
using tpx::text_event;
using tpx::text_pattern;
using tpx::text_rules;
using tpx::text_stream;
using tpx::token_id;

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int rounds = 40;
#else
constexpr int rounds = 300;
#endif

constexpr std::size_t no_limit = 1'000'000;

text_stream stream_of(std::vector<text_pattern> const& patterns, std::size_t patience = no_limit,
                      std::vector<token_id> stops = {}) {
  return text_stream{std::make_shared<text_rules const>(text_rules{
    .patterns = matcher{patterns}, .stop_tokens = std::move(stops), .patience = patience})};
}

/// A random case: pieces of tokens, and patterns over the same bytes.
struct draw {
  explicit draw(unsigned seed, bool stops, bool bans) : random{seed} {
    constexpr std::array<std::string_view, 4> alphabets{"ab", "aAb", "abc",
                                                        "a\xc3\xa4\xe2\x82\xac"};
    alphabet = alphabets[upto(alphabets.size())];
    for (std::size_t i = 2 + upto(6); i > 0; --i) { pieces.push_back(word(0, 3)); }
    pieces.push_back(word(1, 2));
    for (std::size_t i = 1 + upto(4); i > 0; --i) { words.push_back(word(1, 1 + upto(4))); }
    for (auto const& w : words) {
      bool const ban = bans && (!stops || upto(2) == 0);
      patterns.push_back({.text = w,
                          .action = ban ? text_action::Ban : text_action::Stop,
                          .ignore_case = alphabet == "aAb" && ban});
    }
  }

  std::size_t upto(std::size_t n) { return static_cast<std::size_t>(random() % n); }
  std::string word(std::size_t least, std::size_t most) {
    std::string w;
    for (std::size_t n = least + upto(most - least + 1); n > 0; --n) {
      w += alphabet[upto(alphabet.size())];
    }
    return w;
  }
  token_id token() { return static_cast<token_id>(upto(pieces.size())); }
  std::string const& piece(token_id t) const { return pieces[static_cast<std::size_t>(t)]; }
  std::string_view every_byte() const { return alphabet == "aAb" ? "aAbB" : alphabet; }
  std::string text(std::vector<token_id> const& tokens, std::size_t from = 0) const {
    std::string all;
    for (; from < tokens.size(); ++from) { all += piece(tokens[from]); }
    return all;
  }

  std::mt19937 random;
  std::string_view alphabet;
  std::vector<std::string> pieces, words;
  std::vector<text_pattern> patterns;                                 // of at most 4 bytes
  std::map<std::pair<std::string, text_action>, std::size_t> depths;  // found so far
};

/// How many bytes at the end of `text` may become part of a match, by all that may follow.
std::size_t depth(draw& d, std::string const& text, text_action action) {
  auto const [at, is_new] = d.depths.try_emplace({text, action});
  if (is_new) {
    auto const end = text.substr(text.size() - std::min<std::size_t>(text.size(), 8));
    at->second = naive::depth({0, end}, d.patterns, action, d.every_byte(), 4);
  }
  return at->second;
}

/// How many of the tokens may be sent.
std::size_t sendable(draw& d, std::vector<token_id> const& tokens) {
  auto const all = d.text(tokens);
  auto const ban = depth(d, all, text_action::Ban);
  auto const most = all.size() - std::max(ban, depth(d, all, text_action::Stop));
  std::size_t count = 0;
  std::string before;
  for (std::size_t k = 0; k < tokens.size(); ++k) {
    before += d.piece(tokens[k]);
    if (before.size() <= most && naive::unfinished(before) == 0 &&
        (ban == 0 || depth(d, before, text_action::Stop) == 0)) {
      count = k + 1;
    }
  }
  return count;
}

/// Where in `text` the first match ends, and which it is.
struct match {
  std::size_t end;
  std::size_t which;
};
std::optional<match> first_match(std::string_view text, naive::pattern_list const& patterns) {
  naive::scoped now;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (auto const found = naive::add(now, text[i], patterns)) { return match{i + 1, *found}; }
  }
  return std::nullopt;
}

/// A stream with all that it was given and gave.
struct session {
  session(draw& from, std::size_t patience) : d{from}, stream{stream_of(from.patterns, patience)} {}

  text_event push(token_id token) {
    tokens.push_back(token);
    return take(stream.push(token, d.piece(token)));
  }
  text_event take(text_event const& event) {
    sent += event.text;
    sent_tokens += event.tokens;
    return event;
  }
  void rewind(std::size_t count) {
    tokens.resize(tokens.size() - count);
    stream.rewind(count);
  }
  [[nodiscard]] std::string text() const { return d.text(tokens); }
  [[nodiscard]] std::string sent_tokens_text() const {
    return d.text({tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(sent_tokens)});
  }

  draw& d;
  text_stream stream;
  std::vector<token_id> tokens;
  std::string sent;
  std::size_t sent_tokens = 0;
};

void check_stop(session const& s, text_event const& event, match const& found) {
  auto const all = s.text();
  REQUIRE(event.end == text_end::stop_string);
  REQUIRE(event.which == found.which);
  REQUIRE(s.sent == all.substr(0, found.end - s.d.words[found.which].size()));
  REQUIRE(s.sent_tokens == s.tokens.size());
  REQUIRE(event.held == 0);
  REQUIRE(event.cut_bytes == all.size() - s.sent.size());
  auto const whole = s.tokens.size() - event.cut_tokens;
  std::string before;
  for (std::size_t i = 0; i < whole; ++i) { before += s.d.piece(s.tokens[i]); }
  REQUIRE(before.size() <= s.sent.size());
  REQUIRE(before.size() + s.d.piece(s.tokens[whole]).size() > s.sent.size());
}

void check_ban(session const& s, text_event const& event, match const& found) {
  auto end = s.sent.size();
  auto const begin = std::max(end, found.end - s.d.words[found.which].size());
  auto first = s.sent_tokens;
  while ((end += s.d.piece(s.tokens[first]).size()) <= begin) { ++first; }
  REQUIRE(event.which == found.which);
  REQUIRE(event.rewind == s.tokens.size() - first);
  REQUIRE(event.text.empty());
  REQUIRE(event.end == text_end::none);
}

/// A random model writes until a stop string, without bans unless it may be banned.
void write(unsigned seed, bool stops, bool bans) {
  draw d{seed, stops, bans};
  session s{d, no_limit};
  std::map<std::vector<token_id>, std::set<token_id>> forbidden;
  for (int n = 0; n < 40; ++n) {
    auto const& banned_here = forbidden[s.tokens];
    std::set<token_id> const told{s.stream.forbidden().begin(), s.stream.forbidden().end()};
    REQUIRE(told == banned_here);
    auto token = d.token();
    for (std::size_t tries = 0; banned_here.contains(token) && tries < d.pieces.size(); ++tries) {
      token = static_cast<token_id>((static_cast<std::size_t>(token) + 1) % d.pieces.size());
    }
    if (banned_here.contains(token)) { break; }
    auto const before = s.sent_tokens;
    auto const event = s.push(token);
    INFO("seed " << seed << ", text " << s.text());
    auto const found = first_match(s.text(), d.patterns);
    if (found && d.patterns[found->which].action == text_action::Stop) {
      check_stop(s, event, *found);
      return;
    }
    if (found) {
      check_ban(s, event, *found);
      auto const culprit = s.tokens[s.tokens.size() - event.rewind];
      s.rewind(event.rewind);
      forbidden[s.tokens].insert(culprit);
    } else {
      REQUIRE(event.rewind == 0);
      REQUIRE(s.sent_tokens == std::max(before, sendable(d, s.tokens)));
      REQUIRE(s.sent == s.sent_tokens_text());
    }
    REQUIRE(s.stream.held() == s.tokens.size() - s.sent_tokens);
    REQUIRE(s.stream.size() == s.tokens.size());
  }
  s.take(s.stream.finish());
  REQUIRE(s.sent == s.text());
  REQUIRE(s.sent_tokens == s.tokens.size());
  REQUIRE_FALSE(first_match(s.sent, d.patterns));
}

void rewind_and_replay(unsigned seed) {
  draw d{seed, true, true};
  session s{d, no_limit};
  for (int n = 0; n < 60; ++n) {
    if (d.upto(4) == 0) { s.rewind(d.upto(s.stream.held() + 1)); }
    auto const before = s.sent;
    auto const event = s.push(d.token());
    session again{d, no_limit};
    text_event replayed;
    for (auto const token : s.tokens) { replayed = again.push(token); }
    INFO("seed " << seed << ", text " << s.text());
    REQUIRE(event.end == replayed.end);
    REQUIRE(event.which == replayed.which);
    REQUIRE((event.rewind == 0) == (replayed.rewind == 0));
    REQUIRE(s.sent == (before.size() > again.sent.size() ? before : again.sent));
    if (event.end != text_end::none) { return; }
    if (event.rewind > 0) { s.rewind(event.rewind); }
  }
  s.take(s.stream.finish());
  REQUIRE(s.sent == s.text());
}

/// What a short patience may change: text may lag 3 bytes, never more, and all of it comes.
void hurry(unsigned seed) {
  draw d{seed, false, true};
  session s{d, seed % 3};
  for (int n = 0; n < 60; ++n) {
    auto const event = s.push(d.token());
    INFO("seed " << seed << ", text " << s.text());
    if (event.rewind > 0) {
      s.rewind(event.rewind);
      continue;
    }
    auto const told = s.sent_tokens_text();
    REQUIRE(told.starts_with(s.sent));
    REQUIRE(told.size() - s.sent.size() <= 3);
    auto const all = s.text();
    auto const under_way = depth(d, all, text_action::Ban);
    std::size_t open = 0, end = 0;
    for (auto const token : s.tokens) {
      open += (end += d.piece(token).size()) + under_way > all.size();
    }
    REQUIRE(s.stream.held() <= open + seed % 3);
  }
  s.take(s.stream.finish());
  REQUIRE(s.sent == s.text());
  REQUIRE_FALSE(first_match(s.sent, d.patterns));
}

void many(int times, unsigned seed, void (*body)(unsigned)) {
  for (int i = 0; i < times; ++i) { body(seed + static_cast<unsigned>(i)); }
}

void write_stops(unsigned seed) {
  write(seed, true, false);
}
void write_bans(unsigned seed) {
  write(seed, false, true);
}
void write_both(unsigned seed) {
  write(seed, true, true);
}

}  // namespace

TEST_CASE("Text is held exactly as long as a stop string or a character may go on", "[text]") {
  many(rounds, 0, write_stops);
}

TEST_CASE("A banned string never comes out, and what it was made of is not tried again", "[text]") {
  many(rounds, 0, write_bans);
}

TEST_CASE("Bans and stops get along: no part of a stop string comes out", "[text]") {
  many(rounds, 0, write_both);
}

TEST_CASE("A stream that was rewound is the stream of the tokens that remain", "[text]") {
  many(rounds, 0, rewind_and_replay);
}

TEST_CASE("Patience bounds what waits for a character or a rewind", "[text]") {
  many(rounds, 0, hurry);
}

TEST_CASE("Streams of text do what searches of the whole text do, for long", "[.long][text]") {
  for (auto* const body : {write_stops, write_bans, write_both, rewind_and_replay, hurry}) {
    many(100 * rounds, 1'000'000, body);
  }
}

TEST_CASE("A stop token ends the text, and what a stop string held is sent", "[text]") {
  auto s = stream_of({{.text = "</end>"}}, 16, {7, 9});
  REQUIRE(s.push(1, "so </e").text == "");
  auto const event = s.push(9, "<eos>");
  REQUIRE(event.text == "so </e");
  REQUIRE(event.end == text_end::stop_token);
  REQUIRE(event.which == 1);
  REQUIRE(event.tokens == 2);
  REQUIRE(event.cut_tokens == 1);
  REQUIRE(event.cut_bytes == 5);
  REQUIRE(s.ended() == text_end::stop_token);
  REQUIRE_THROWS_AS(s.push(1, "x"), tpx::error);
  REQUIRE_THROWS_AS(s.finish(), tpx::error);
  REQUIRE_THROWS_AS(s.rewind(0), tpx::error);
}

TEST_CASE("A stop string may begin and end inside tokens", "[text]") {
  auto s = stream_of({{.text = "STOP"}});
  REQUIRE(s.push(0, "one ").text == "one ");
  REQUIRE(s.push(1, "two ST").text == "");
  auto const event = s.push(2, "OP three");
  REQUIRE(event.text == "two ");
  REQUIRE(event.tokens == 2);
  REQUIRE(event.cut_tokens == 2);
  REQUIRE(event.cut_bytes == 10);
}

TEST_CASE("A stop string that goes on after a rewind has not been sent", "[text]") {
  auto s = stream_of({{.text = "ab"}, {.text = "ca", .action = text_action::Ban}});
  std::string sent;
  sent += s.push(0, "a").text;
  sent += s.push(2, "c").text;
  REQUIRE(s.push(0, "a").rewind == 2);
  s.rewind(2);
  sent += s.push(1, "b").text;
  REQUIRE(s.ended() == text_end::stop_string);
  REQUIRE(sent == "");
}

TEST_CASE("A scope has its own stop strings", "[text]") {
  std::vector<text_pattern> const patterns{
    {.text = "\n\n", .scopes = 0b10},
    {.text = "bad", .action = text_action::Ban},
    {.text = "</think>", .action = text_action::Enter, .scopes = 0b01, .enters = 1}};
  auto const rules = std::make_shared<text_rules const>(
    text_rules{.patterns = matcher{patterns, 2}, .scope_tokens = {{5, 0}, {6, 1}}});
  SECTION("which a string begins") {
    text_stream s{rules};
    REQUIRE(s.push(0, "hm\n\n</thi").text == "hm\n\n</thi");
    REQUIRE(s.push(1, "nk>\n").text == "");
    REQUIRE(s.push(2, "a").text == "nk>\na");
    REQUIRE(s.push(2, "\n\n").end == text_end::stop_string);
  }
  SECTION("which a token begins") {
    text_stream s{rules};
    REQUIRE(s.push(0, "\n\nb").text == "");
    REQUIRE(s.push(6, "").text == "\n\nb");
    REQUIRE(s.push(2, "ad").text == "ad");  // no match across scopes
    REQUIRE(s.push(3, "b").held == 1);
    REQUIRE(s.push(2, "ad").rewind == 2);
    s.rewind(2);
    REQUIRE(s.push(5, "").text == "");
    REQUIRE(s.push(0, "\n\n").text == "\n\n");
  }
}

TEST_CASE("Bytes that are no UTF-8 pass, and hold nothing up", "[text]") {
  auto s = stream_of({});
  REQUIRE(s.push(0, "\xff").text == "\xff");
  REQUIRE(s.push(0, "\xf0\x9f").text == "");
  REQUIRE(s.push(0, "\x98").text == "");
  REQUIRE(s.push(0, "a").text ==
          "\xf0\x9f\x98"
          "a");
  REQUIRE(s.push(0, "\xe2\x82").held == 1);
  REQUIRE(s.finish().text == "\xe2\x82");
}

TEST_CASE("A stream refuses what would spoil it, and goes on", "[text]") {
  auto s = stream_of({{.text = "ab", .action = text_action::Ban}});
  REQUIRE(s.push(0, "xa").held == 1);
  REQUIRE_THROWS_AS(s.rewind(2), tpx::error);
  REQUIRE(s.push(1, "b").rewind == 2);
  REQUIRE(s.forbidden().empty());
  REQUIRE_THROWS_AS(s.push(1, "b"), tpx::error);
  REQUIRE_THROWS_AS(s.rewind(1), tpx::error);
  s.rewind(2);
  REQUIRE(std::vector(s.forbidden().begin(), s.forbidden().end()) == std::vector<token_id>{0});
  REQUIRE(s.push(2, "x").text == "x");
  REQUIRE(s.push(3, "a").held == 1);
  REQUIRE(s.push(1, "b").rewind == 2);
  REQUIRE(s.finish().text == "");  // the banned string is gone
  REQUIRE_THROWS_AS(text_stream{nullptr}, tpx::error);
  text_rules const astray{.scope_tokens = {{1, 1}}};
  REQUIRE_THROWS_AS(text_stream{std::make_shared<text_rules const>(astray)}, tpx::error);
}

TEST_CASE("A token costs no allocation", "[text]") {
  auto s = stream_of({{.text = "a b c d e f g h i j stop"},
                      {.text = "e f a", .action = text_action::Ban, .ignore_case = true}},
                     16);
  std::size_t sent = 0;
  auto const count = allocations;
  for (int n = 0; n < 10'000; ++n) {
    constexpr std::array<std::string_view, 8> pieces{"a ", "b c ", "d",    " e",
                                                     " f", "",     "\xe2", "\x82"};
    auto const event = s.push(n % 8, pieces[static_cast<std::size_t>(n) % 8]);
    sent += event.text.size();
  }
  REQUIRE(allocations == count);
  REQUIRE(sent > 10'000);
}
