// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"

#include <tpx/generator/counter_rng.hpp>
#include <tpx/generator/draft_window.hpp>
#include <tpx/generator/suffix_automaton.hpp>
#include <tpx/generator/transaction.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

namespace {

using tpx::token_id;

// A filter with a journal: of the tokens' sum modulo 97, and how often it was zero.
class summing_filter {
 public:
  void accept(token_id token) {
    journal_.push_back(*this_value());
    value_.sum = (value_.sum + token) % 97;
    value_.zeros += value_.sum == 0 ? 1 : 0;
  }
  void rewind(std::size_t tokens) {
    for (; tokens > 0; --tokens) {
      value_ = journal_.back();
      journal_.pop_back();
    }
  }
  struct value {
    token_id sum = 0;
    int zeros = 0;
    bool operator==(value const&) const = default;
  };
  value const* this_value() const { return &value_; }

 private:
  value value_;
  std::vector<value> journal_;
};

// Plain values: how often each token was, and a random generator's step.
using counts = std::array<int, 8>;
struct random_step {
  std::uint64_t step = 0;
  std::uint32_t last = 0;
  bool operator==(random_step const&) const = default;
};

using tokens = std::vector<token_id>;

// One element a token.
struct token_list {
  tokens all = {};
  void rewind(std::size_t n) { all.resize(all.size() - n); }
};

// All parts after each of `text`, in a way that knows no rewind.
struct replayed {
  tpx::suffix_automaton automaton;
  tpx::draft_window window{8};
  summing_filter filter;
  counts seen{};
  random_step random;

  explicit replayed(tokens const& text) {
    for (auto const token : text) {
      automaton.append(token);
      window.learn(4, static_cast<std::uint32_t>(token) % 5);
      filter.accept(token);
      ++seen[static_cast<std::size_t>(token) % 8];
      random.last = tpx::random_at(1, random.step++, static_cast<std::uint32_t>(token)).word[0];
    }
  }
};

}  // namespace

// What cannot be taken back is no part.
static_assert(!tpx::rewindable<std::string> && !tpx::plain_value<std::string>);
static_assert(tpx::plain_value<counts> && tpx::rewindable<tpx::suffix_automaton>);

TEST_CASE("a rewind of all parts equals a replay of what remains", "[transaction]") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    std::mt19937 random{seed};
    std::size_t const depth = 1 + random() % 20;
    tpx::suffix_automaton automaton;
    tpx::draft_window window{8};
    summing_filter filter;
    counts seen{};
    random_step step;
    token_list text;
    tpx::transaction<tpx::suffix_automaton, tpx::draft_window, summing_filter, counts, random_step,
                     token_list>
      t{depth};
    tokens expected;
    std::size_t open = 0;
    for (int round = 0; round < 80; ++round) {
      for (auto n = random() % 8; n > 0; --n) {
        auto const token = static_cast<token_id>(random() % 12);
        t.begin_token(automaton, window, filter, seen, step, text);
        text.all.push_back(token);
        automaton.append(token);
        window.learn(4, static_cast<std::uint32_t>(token) % 5);
        filter.accept(token);
        ++seen[static_cast<std::size_t>(token) % 8];
        step.last = tpx::random_at(1, step.step++, static_cast<std::uint32_t>(token)).word[0];
        expected.push_back(token);
        open = std::min(open + 1, depth);
      }
      REQUIRE(t.depth() == open);
      auto const rewind = [&](std::size_t n) {
        t.rewind(n, automaton, window, filter, seen, step, text);
      };
      REQUIRE_THROWS_AS(rewind(open + 1), tpx::error);
      auto const back = random() % (open + 1);
      rewind(back);
      expected.resize(expected.size() - back);
      open -= back;

      replayed const all{expected};
      REQUIRE(text.all == expected);
      REQUIRE(std::ranges::equal(automaton.tokens(), expected));
      REQUIRE(automaton.longest().end == all.automaton.longest().end);
      REQUIRE(window.mean() == all.window.mean());
      REQUIRE(window.size() == all.window.size());
      REQUIRE(*filter.this_value() == *all.filter.this_value());
      REQUIRE(seen == all.seen);
      REQUIRE(step == all.random);
    }
  }
}

TEST_CASE("a rewind that goes too far changes nothing", "[transaction]") {
  token_list text;
  random_step random;
  tpx::transaction<token_list, random_step> t{2};
  for (token_id token : {5, 6, 7}) {
    t.begin_token(text, random);
    text.all.push_back(token);
    ++random.step;
  }
  CHECK_THROWS_AS(t.rewind(3, text, random), tpx::error);
  CHECK(text.all == tokens{5, 6, 7});
  CHECK(random.step == 3);
  t.rewind(2, text, random);
  CHECK(text.all == tokens{5});
  CHECK(random.step == 1);
  CHECK_THROWS_AS(t.rewind(1, text, random), tpx::error);
}

TEST_CASE("a transaction of depth 0 takes nothing back", "[transaction]") {
  random_step random;
  tpx::transaction<random_step> t{0};
  t.begin_token(random);
  CHECK(t.depth() == 0);
  CHECK_NOTHROW(t.rewind(0, random));
  CHECK_THROWS_AS(t.rewind(1, random), tpx::error);
}

TEST_CASE("a transaction allocates nothing for plain values", "[transaction]") {
  counts seen{};
  random_step random;
  tpx::draft_window window{8};
  tpx::transaction<counts, random_step, tpx::draft_window> t{16};
  auto const before = allocations;
  for (int i = 0; i < 1000; ++i) {
    t.begin_token(seen, random, window);
    ++random.step;
    if (i % 3 == 0 && t.depth() > 5) { t.rewind(2, seen, random, window); }
  }
  CHECK(allocations == before);
}
