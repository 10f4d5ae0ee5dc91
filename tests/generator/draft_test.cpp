// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"

#include <tpx/generator/draft_window.hpp>
#include <tpx/generator/ngram_draft.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <random>
#include <type_traits>
#include <vector>

namespace {

using tpx::token_id;
using tokens = std::vector<token_id>;

// The longest end of `text` that also ends at an earlier place, by comparing all places.
std::size_t longest_by_comparing(tokens const& text) {
  std::size_t best = 0;
  for (std::size_t end = 1; end < text.size(); ++end) {
    std::size_t length = 0;
    while (length < end && text[end - 1 - length] == text[text.size() - 1 - length]) { ++length; }
    best = std::max(best, length);
  }
  return best;
}

bool same_ends(tokens const& text, std::size_t end, std::size_t length) {
  return end < text.size() && length <= end &&
         std::equal(text.end() - static_cast<std::ptrdiff_t>(length), text.end(),
                    text.begin() + static_cast<std::ptrdiff_t>(end - length));
}

// Few tokens, or copies of stretches of itself, or one token again and again: many matches.
class writer {
 public:
  explicit writer(unsigned seed) : random_{seed}, alphabet_{1 + static_cast<int>(random_() % 5)} {}

  token_id next(tokens const& text) {
    if (copied_ == 0 && text.size() > 4 && random_() % 8 == 0) {
      from_ = random_() % text.size();
      copied_ = random_() % 20;
    }
    if (copied_ > 0 && from_ < text.size()) {
      --copied_;
      return text[from_++];
    }
    copied_ = 0;
    return static_cast<token_id>(random_() % static_cast<unsigned>(alphabet_)) * 40000;
  }
  std::size_t below(std::size_t n) { return random_() % n; }

 private:
  std::mt19937 random_;
  int alphabet_;
  std::size_t from_ = 0;
  std::size_t copied_ = 0;
};

bool same(tpx::suffix_automaton const& a, tpx::suffix_automaton const& b) {
  return std::ranges::equal(a.tokens(), b.tokens()) && a.longest().length == b.longest().length &&
         a.longest().end == b.longest().end;
}

}  // namespace

TEST_CASE("the automaton finds the longest end that occurs earlier", "[draft]") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    writer author{seed};
    tokens text;
    tpx::suffix_automaton automaton;
    for (int i = 0; i < 120; ++i) {
      text.push_back(author.next(text));
      automaton.append(text.back());
      auto const found = automaton.longest();
      REQUIRE(found.length == longest_by_comparing(text));
      REQUIRE((found.length == 0 || same_ends(text, found.end, found.length)));
    }
  }
}

TEST_CASE("a rewound automaton is the one that was never given the tokens", "[draft]") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    writer author{seed};
    tokens text;
    tpx::suffix_automaton rewound;
    for (int round = 0; round < 25; ++round) {
      for (auto n = author.below(12); n > 0; --n) {
        text.push_back(author.next(text));
        rewound.append(text.back());
      }
      auto const back = author.below(std::min<std::size_t>(text.size(), 15) + 1);
      text.resize(text.size() - back);
      rewound.rewind(back);
      tpx::suffix_automaton replayed;
      for (auto const token : text) { replayed.append(token); }
      REQUIRE(same(rewound, replayed));
      // And it stays so with what comes next.
      auto const probe = author.next(text);
      rewound.append(probe);
      replayed.append(probe);
      REQUIRE(same(rewound, replayed));
      rewound.rewind(1);
    }
    rewound.rewind(text.size());
    REQUIRE(rewound.size() == 0);
    REQUIRE_THROWS_AS(rewound.rewind(1), tpx::error);
  }
}

TEST_CASE("a draft is what followed the longest earlier occurrence", "[draft]") {
  tpx::ngram_draft draft{{.match = 2}};
  draft.append(tokens{1, 2, 3, 9, 8, 2, 3, 4, 5, 1, 2, 3});
  CHECK(std::ranges::equal(draft.propose(4), tokens{9, 8, 2, 3}));
  CHECK(draft.propose(0).empty());
  draft.append(tokens{4});
  CHECK(std::ranges::equal(draft.propose(2), tokens{5, 1}));
  draft.append(tokens{7});
  CHECK(draft.propose(4).empty());
  draft.rewind(2);
  CHECK(std::ranges::equal(draft.propose(1), tokens{9}));
  draft.clear();
  CHECK(draft.propose(4).empty());
}

TEST_CASE("a draft needs as many matching tokens as were asked for", "[draft]") {
  tokens const text{1, 2, 3, 4, 9, 2, 3};
  for (std::size_t match = 1; match < 5; ++match) {
    tpx::ngram_draft draft{{.match = match}};
    draft.append(text);
    CHECK(draft.propose(1).size() == (match <= 2 ? 1 : 0));
  }
}

TEST_CASE("a period is drafted over and over", "[draft]") {
  tpx::ngram_draft draft;
  draft.append(tokens{7, 1, 2, 3, 1, 2, 3, 1, 2});
  CHECK(std::ranges::equal(draft.propose(8), tokens{3, 1, 2, 3, 1, 2, 3, 1}));
}

TEST_CASE("a draft of reserved length allocates nothing", "[draft]") {
  tpx::ngram_draft draft{{.match = 3, .tokens = 4000, .most = 8}};
  for (unsigned seed : {1u, 2u, 3u}) {
    writer author{seed};
    tokens text;
    text.reserve(4000);
    auto const before = allocations;
    while (text.size() < 4000) {
      text.push_back(author.next(text));
      draft.append({&text.back(), 1});
      (void)draft.propose(8);
      if (text.size() % 50 == 0) {
        draft.rewind(7);
        draft.append(std::span{text}.last(7));
      }
    }
    REQUIRE(allocations == before);
    draft.clear();
  }
}

static_assert(std::is_trivially_copyable_v<tpx::draft_window>);

TEST_CASE("a window that is accepted grows to its limit and stays there", "[draft]") {
  tpx::draft_window window{8};
  REQUIRE(window.size() == 8);
  for (int i = 0; i < 3; ++i) { window.learn(window.size(), 1); }
  auto const narrow = window.size();
  REQUIRE(narrow <= 3);
  int rounds = 0;
  for (; window.size() < 8; ++rounds) {
    auto const size = window.size();
    window.learn(size, size);
    REQUIRE(window.size() > size);
  }
  CHECK(rounds <= 6);
  for (int i = 0; i < 100; ++i) {
    window.learn(window.size(), window.size());
    REQUIRE(window.size() == 8);
  }
}

TEST_CASE("a window that is never accepted is probed every 16 rounds", "[draft]") {
  tpx::draft_window window{8};
  std::vector<int> drafted;
  for (int round = 0; round < 200; ++round) {
    auto const size = window.size();
    if (size > 0) { drafted.push_back(round); }
    window.learn(size, 0);
  }
  REQUIRE(drafted.size() > 10);
  for (std::size_t i = drafted.size() - 8; i < drafted.size(); ++i) {
    CHECK(drafted[i] - drafted[i - 1] == 16);
  }
  // One success and it drafts again.
  while (window.size() == 0) { window.learn(0, 0); }
  window.learn(window.size(), window.size());
  CHECK(window.size() >= 2);
}

TEST_CASE("a window settles a little above what is accepted", "[draft]") {
  for (std::uint32_t accepted = 1; accepted < 8; ++accepted) {
    tpx::draft_window window{12};
    for (int i = 0; i < 50; ++i) { window.learn(window.size(), std::min(window.size(), accepted)); }
    CHECK(window.size() >= accepted);
    CHECK(window.size() <= accepted + 2);
  }
  CHECK(tpx::draft_window{0}.size() == 0);
}
