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
using logprobs = std::vector<float>;

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

// A text has no element a token; what cannot be taken back is no part.
static_assert(!tpx::element_a_token<std::string> && !tpx::plain_value<std::string>);
static_assert(tpx::element_a_token<tokens> && tpx::plain_value<counts>);
static_assert(tpx::rewindable<tpx::suffix_automaton>);

TEST_CASE("a rewind of all parts equals a replay of what remains", "[transaction]") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    std::mt19937 random{seed};
    std::size_t const depth = 1 + random() % 20;
    std::size_t elsewhere = 0;
    tpx::on_rewind frontier{[&](std::size_t n) { elsewhere -= n; }};
    tpx::transaction t{depth,
                       tpx::suffix_automaton{},
                       tpx::draft_window{8},
                       summing_filter{},
                       counts{},
                       random_step{},
                       tokens{},
                       logprobs{},
                       frontier};
    tokens expected;
    std::size_t open = 0;
    for (int round = 0; round < 80; ++round) {
      for (auto n = random() % 8; n > 0; --n) {
        auto const token = static_cast<token_id>(random() % 12);
        t.begin_token();
        t.get<tokens>().push_back(token);
        t.get<logprobs>().push_back(static_cast<float>(token) / 2);
        t.get<tpx::suffix_automaton>().append(token);
        t.get<tpx::draft_window>().learn(4, static_cast<std::uint32_t>(token) % 5);
        t.get<summing_filter>().accept(token);
        ++t.get<counts>()[static_cast<std::size_t>(token) % 8];
        auto& r = t.get<random_step>();
        r.last = tpx::random_at(1, r.step++, static_cast<std::uint32_t>(token)).word[0];
        ++elsewhere;
        expected.push_back(token);
        open = std::min(open + 1, depth);
      }
      if (random() % 10 == 0) {
        t.keep();
        open = 0;
      }
      REQUIRE(t.depth() == open);
      REQUIRE_THROWS_AS(t.rewind(open + 1), tpx::error);
      auto const back = random() % (open + 1);
      t.rewind(back);
      expected.resize(expected.size() - back);
      open -= back;

      replayed const all{expected};
      REQUIRE(t.get<tokens>() == expected);
      REQUIRE(elsewhere == expected.size());
      REQUIRE(t.get<logprobs>().size() == expected.size());
      REQUIRE(std::ranges::equal(t.get<tpx::suffix_automaton>().tokens(), expected));
      REQUIRE(t.get<tpx::suffix_automaton>().longest().end == all.automaton.longest().end);
      REQUIRE(t.get<tpx::draft_window>().mean() == all.window.mean());
      REQUIRE(t.get<tpx::draft_window>().size() == all.window.size());
      REQUIRE(*t.get<summing_filter>().this_value() == *all.filter.this_value());
      REQUIRE(t.get<counts>() == all.seen);
      REQUIRE(t.get<random_step>() == all.random);
    }
  }
}

TEST_CASE("a rewind that goes too far changes nothing", "[transaction]") {
  tpx::transaction t{2, tokens{}, random_step{}};
  for (token_id token : {5, 6, 7}) {
    t.begin_token();
    t.get<tokens>().push_back(token);
    ++t.get<random_step>().step;
  }
  CHECK_THROWS_AS(t.rewind(3), tpx::error);
  CHECK(t.get<tokens>() == tokens{5, 6, 7});
  CHECK(t.get<random_step>().step == 3);
  t.rewind(2);
  CHECK(t.get<tokens>() == tokens{5});
  CHECK(t.get<random_step>().step == 1);
  CHECK_THROWS_AS(t.rewind(1), tpx::error);
}

TEST_CASE("a transaction of depth 0 takes nothing back", "[transaction]") {
  tpx::transaction t{0, random_step{}};
  t.begin_token();
  CHECK(t.depth() == 0);
  CHECK_NOTHROW(t.rewind(0));
  CHECK_THROWS_AS(t.rewind(1), tpx::error);
}

TEST_CASE("a copy of a transaction goes its own way", "[transaction]") {
  tpx::transaction one{4, tokens{}, random_step{}};
  one.begin_token();
  one.get<tokens>().push_back(1);
  one.get<random_step>().step = 9;
  auto other = one;
  other.rewind(1);
  CHECK(other.get<tokens>().empty());
  CHECK(other.get<random_step>().step == 0);
  CHECK(one.get<tokens>().size() == 1);
  CHECK(one.get<random_step>().step == 9);
}

TEST_CASE("a transaction allocates nothing for plain values", "[transaction]") {
  tpx::transaction t{16, counts{}, random_step{}, tpx::draft_window{8}};
  auto const before = allocations;
  for (int i = 0; i < 1000; ++i) {
    t.begin_token();
    ++t.get<random_step>().step;
    if (i % 3 == 0 && t.depth() > 5) { t.rewind(2); }
  }
  CHECK(allocations == before);
}
