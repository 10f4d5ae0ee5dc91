// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A healed prompt whose text has a filter.
#include "vocabularies.hpp"
#include "world.hpp"

#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/healed_filter.hpp>
#include <tpx/generator/regex_filter.hpp>

#include <catch2/catch_test_macros.hpp>

#include <regex>
#include <set>
#include <string>

namespace {

using tpx::token_id;
using vocabularies::pieces;
using vocabularies::rng;

constexpr auto expression = "(ab|ca*b)+c?";

/// Whether a text that matches can begin with `bytes`.
bool can_begin(tpx::regex_filter filter, std::string_view bytes) {
  try {
    for (char const c : bytes) { filter.accept(2 + static_cast<unsigned char>(c)); }
  } catch (tpx::error const&) { return false; }
  return true;
}

/// Heals a prompt that ends in `last`, then goes on at random, and compares each mask with what the
/// bytes say.
void compare(unsigned seed) {
  rng random{seed};
  pieces const words = vocabularies::some(random, {"a", "b", "c"}, {}, 60);
  auto const trie = std::make_shared<tpx::token_trie const>(words);
  tpx::text_pieces<pieces> const sorted{words};
  tpx::regex_filter const beyond{trie, expression};
  auto const last = static_cast<token_id>(258 + vocabularies::below(random, 60));
  tpx::token_healing<pieces> healing{sorted, std::vector<token_id>{5, last}};
  std::string const prefix{words.piece(last)};
  REQUIRE(healing.prefix() == prefix);
  tpx::healed_filter filter{sorted, healing, beyond};
  std::vector<token_id> taken;
  for (int n = 0; n < 12; ++n) {
    std::string text;
    for (auto const t : taken) { text += words.piece(t); }
    auto const mask = vocabularies::mask_of(filter, words.size());
    INFO("seed " << seed << ", \"" << text << "\" of \"" << prefix << '"');
    for (token_id t = 2; t < static_cast<token_id>(words.size()); ++t) {
      auto const all = text + std::string{words.piece(t)};
      bool const may = all.size() <= prefix.size()
                         ? prefix.starts_with(all)
                         : all.starts_with(prefix) && can_begin(beyond, all.substr(prefix.size()));
      REQUIRE(tpx::mask_allows(mask, t) == may);
      if (!may && t > 256) { REQUIRE_THROWS_AS(filter.accept(t), tpx::error); }
    }
    bool const whole = text.size() > prefix.size() &&
                       std::regex_match(text.substr(prefix.size()), std::regex{expression});
    REQUIRE(filter.finished() == whole);
    REQUIRE(tpx::mask_allows(mask, 0) == false);
    auto const next = vocabularies::any_of(mask, random);
    if (next < 0) { break; }
    filter.accept(next);
    taken.push_back(next);
    if (vocabularies::below(random, 3) == 0) {
      auto const back = vocabularies::below(random, taken.size() + 1);
      filter.rewind(back);
      taken.resize(taken.size() - back);
    }
  }
}

TEST_CASE("after a healed prompt the filter's text begins where the prompt ended") {
  for (unsigned seed = 0; seed < (vocabularies::sanitized ? 10 : 100); ++seed) { compare(seed); }
}

TEST_CASE("what a healing token has beyond the prompt counts for a filter of tokens") {
  pieces const words{{"<s>", "x", "xy", "xyz", "y", "z", "yz"}};
  tpx::text_pieces<pieces> const sorted{words};
  tpx::token_healing<pieces> const healing{sorted, std::vector<token_id>{0, 1}};
  auto const beyond = tpx::allowed_tokens::at_positions(
    words.size(), std::vector<std::vector<token_id>>{{6, 4}, {5}});
  tpx::healed_filter filter{sorted, healing, beyond};
  auto const may = [&] {
    std::set<token_id> all;
    auto const mask = vocabularies::mask_of(filter, words.size());
    for (token_id t = 0; t < 7; ++t) {
      if (tpx::mask_allows(mask, t)) { all.insert(t); }
    }
    return all;
  };
  REQUIRE(may() == std::set<token_id>{1, 2, 3});
  filter.accept(3);  // "x", and "yz" for the filter
  REQUIRE(may() == std::set<token_id>{5});
  filter.rewind(1);
  filter.accept(1);
  REQUIRE(may() == std::set<token_id>{4, 6});
  filter.accept(4);
  filter.accept(5);
  REQUIRE(filter.finished());
  filter.rewind(3);
  REQUIRE(may() == std::set<token_id>{1, 2, 3});
}

TEST_CASE("a job may heal its prompt and have a filter") {
  using namespace fake;
  constexpr std::size_t vocab = 700;  // "a" to "z", "ba" to "zz", "baa" to "bax"
  hash_model<16> model{60, vocab};
  letters const names{vocab};
  noisy sampler;
  generator<hash_model<16>> gen{model, sampler, names};
  auto const trie = std::make_shared<tpx::token_trie const>(names);
  std::vector<tpx::job> handles;
  std::vector<token_id> lasts;
  for (token_id last = 0; last < 52; ++last) {
    options job{.prompt = {30, last}, .max_new_tokens = 40};
    job.heal_tokens = true;
    job.filter = tpx::regex_filter{trie, "[a-m]+[n-z]b{3,9}"};
    handles.push_back(gen.enqueue(job));
    lasts.push_back(last);
  }
  gen.drain();
  std::size_t spilled = 0;
  for (std::size_t i = 0; i < handles.size(); ++i) {
    auto const all = handles[i].wait(no_time).front();
    REQUIRE(all.error == "");
    REQUIRE(all.reason == finish_reason::filter_finished);
    REQUIRE(std::regex_match(all.text, std::regex{"[a-m]+[n-z]b{3,9}"}));
    std::string text;
    for (token_id const t : all.tokens) { text += names.piece(t); }
    std::string const before{names.piece(lasts[i])};
    REQUIRE(text == before + all.text);
    spilled += names.piece(all.tokens[0]).size() > before.size() ? 1 : 0;
  }
  REQUIRE(spilled > 5);
}

}  // namespace
