// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"
#include "vocabularies.hpp"

#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/filter.hpp>
#include <tpx/generator/json_schema_filter.hpp>
#include <tpx/generator/regex_filter.hpp>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace vocabularies;

using both = tpx::every_filter<tpx::regex_filter, tpx::allowed_tokens>;

static_assert(tpx::filter<tpx::allowed_tokens> && tpx::filter<both> &&
              tpx::filter<tpx::any_filter>);

pieces const& letters() {
  static pieces const p{{"", "a", "b", "ab", "c"}};
  return p;
}

std::shared_ptr<tpx::token_trie const> trie() {
  static auto const t = std::make_shared<tpx::token_trie const>(letters());
  return t;
}

std::vector<tpx::token_id> allowed_by(auto& filter, std::size_t vocab_size) {
  auto const mask = mask_of(filter, vocab_size);
  std::vector<tpx::token_id> tokens;
  for (tpx::token_id t = 0; t < static_cast<tpx::token_id>(vocab_size); ++t) {
    if (tpx::mask_allows(mask, t)) { tokens.push_back(t); }
  }
  return tokens;
}

using list = std::vector<tpx::token_id>;

}  // namespace

TEST_CASE("a set of allowed tokens allows those, and the end, everywhere", "[filter]") {
  tpx::allowed_tokens filter{100, {3, 70}, {5}};
  for (int i = 0; i < 3; ++i) {
    REQUIRE(allowed_by(filter, 100) == list{3, 5, 70});
    REQUIRE(filter.finished());
    REQUIRE_THROWS_AS(filter.accept(4), tpx::error);
    filter.accept(70);
  }
  filter.accept(5);
  filter.rewind(4);
  REQUIRE_THROWS_AS(filter.rewind(1), tpx::error);
  REQUIRE_THROWS_AS((tpx::allowed_tokens{100, {100}}), tpx::error);
  REQUIRE_THROWS_AS((tpx::allowed_tokens{100, {-1}}), tpx::error);
  REQUIRE_THROWS_AS((tpx::allowed_tokens{100, {1}, {100}}), tpx::error);
  REQUIRE_THROWS_AS(mask_of(filter, 129), tpx::error);
}

TEST_CASE("sets of allowed tokens a position end after the last", "[filter]") {
  auto filter = tpx::allowed_tokens::at_positions(40, {{1, 2}, {39}}, {0});
  REQUIRE(allowed_by(filter, 40) == list{1, 2});
  REQUIRE(!filter.finished());
  REQUIRE_THROWS_AS(filter.accept(0), tpx::error);
  filter.accept(2);
  REQUIRE(allowed_by(filter, 40) == list{39});
  REQUIRE_THROWS_AS(filter.accept(2), tpx::error);
  filter.accept(39);
  REQUIRE(filter.finished());
  REQUIRE(allowed_by(filter, 40) == list{0});
  filter.rewind(1);
  REQUIRE(allowed_by(filter, 40) == list{39});
}

TEST_CASE("filters together allow what each allows, and refuse without a trace", "[filter]") {
  both filter{tpx::regex_filter{trie(), "(a|b)+c", {.end_tokens = {0}}},
              tpx::allowed_tokens{5, {1, 3, 4}, {0}}};
  REQUIRE(allowed_by(filter, 5) == list{1, 3});
  REQUIRE(!filter.finished());
  REQUIRE_THROWS_AS(filter.accept(2), tpx::error);  // the expression would have taken it
  filter.accept(3);
  REQUIRE(allowed_by(filter, 5) == list{1, 3, 4});
  filter.accept(4);
  REQUIRE(filter.finished());
  REQUIRE(allowed_by(filter, 5) == list{0});
  filter.rewind(2);
  REQUIRE(allowed_by(filter, 5) == list{1, 3});
  REQUIRE_THROWS_AS(filter.rewind(1), tpx::error);
}

TEST_CASE("filters that contradict each other leave an empty mask", "[filter]") {
  both filter{tpx::regex_filter{trie(), "b+"}, tpx::allowed_tokens{5, {1, 4}}};
  REQUIRE(tpx::mask_empty(mask_of(filter, 5)));
  REQUIRE(!filter.finished());
}

TEST_CASE("any filter does what the filter within does, and none allows all", "[filter]") {
  tpx::any_filter none;
  REQUIRE((!none.has_value() && none.finished()));
  REQUIRE(allowed_by(none, 32).size() == 32);
  none.accept(7);
  none.rewind(1);
  std::vector<tpx::any_filter> batch;
  batch.emplace_back(tpx::regex_filter{trie(), "abc"});
  batch.emplace_back(tpx::allowed_tokens{5, {2}});
  REQUIRE(batch[0].has_value());
  REQUIRE(allowed_by(batch[0], 5) == list{1, 3});
  REQUIRE(allowed_by(batch[1], 5) == list{2});
  batch[0].accept(3);
  batch[0].accept(4);
  REQUIRE(batch[0].finished());
  batch[0].rewind(1);
  REQUIRE(!batch[0].finished());
  REQUIRE_THROWS_AS(batch[0].accept(3), tpx::error);
}

TEST_CASE("a filter refuses tokens that its vocabulary does not have", "[filter]") {
  tpx::regex_filter filter{trie(), ".*"};
  REQUIRE_THROWS_AS(filter.accept(5), tpx::error);
  REQUIRE_THROWS_AS(filter.accept(-1), tpx::error);
  REQUIRE_THROWS_AS(filter.accept(0), tpx::error);  // it stands for no text
  REQUIRE_THROWS_AS((tpx::regex_filter{trie(), "a", {.end_tokens = {5}}}), tpx::error);
  REQUIRE_THROWS_AS(mask_of(filter, 33), tpx::error);
}

TEST_CASE("a filter that has met its states allocates nothing", "[filter]") {
  rng from{1};
  auto const vocabulary = some(from, {"a", "\"", ":", ",", "{", "}", "1"}, {}, 50);
  tpx::json_schema_filter filter{std::make_shared<tpx::token_trie const>(vocabulary), "{}"};
  std::vector<std::uint32_t> mask(tpx::mask_words(vocabulary.size()));
  std::vector<tpx::token_id> tokens;
  for (unsigned char const c : std::string_view{R"({"a":[{"b":"c"},1]})"}) {
    tokens.push_back(2 + c);
  }
  auto const pass = [&] {
    for (auto const token : tokens) {
      filter.fill(mask);
      filter.accept(token);
    }
    filter.rewind(tokens.size());
  };
  pass();
  auto const before = allocations;
  for (int i = 0; i < 20; ++i) { pass(); }
  REQUIRE(allocations == before);
}
