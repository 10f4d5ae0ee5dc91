// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"

#include <tpx/generator/draft_window.hpp>
#include <tpx/generator/model_draft.hpp>
#include <tpx/generator/ngram_draft.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
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

namespace {

void rewound_equals_replayed(unsigned seeds) {
  for (unsigned seed = 0; seed < seeds; ++seed) {
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
    REQUIRE_THROWS_AS(rewound.rewind(text.size() + 1), tpx::error);
    REQUIRE(std::ranges::equal(rewound.tokens(), text));
    rewound.rewind(text.size());
    REQUIRE(rewound.size() == 0);
  }
}

}  // namespace

TEST_CASE("a rewound automaton is the one that was never given the tokens", "[draft]") {
  rewound_equals_replayed(60);
}

TEST_CASE("a rewound automaton is so after millions of tokens too", "[draft][.long]") {
  rewound_equals_replayed(100'000);
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

TEST_CASE("a draft of reserved length allocates nothing, whatever the text", "[draft]") {
  constexpr std::size_t length = 3000;
  tpx::ngram_draft draft{{.match = 3, .tokens = length, .most = 8}};
  std::mt19937 random{1};
  std::vector<tokens> texts(8);
  for (unsigned seed = 0; seed < 3; ++seed) {
    writer author{seed};
    while (texts[seed].size() < length) { texts[seed].push_back(author.next(texts[seed])); }
  }
  for (std::size_t i = 0; i < length; ++i) {
    texts[3].push_back(static_cast<token_id>(i));                                // all new
    texts[4].push_back(i == 0 ? 1 : i + 1 == length ? 2 : 0);                    // most states
    texts[5].push_back(static_cast<token_id>(random() % 2));                     //
    texts[6].push_back(static_cast<token_id>(random() % 300));                   // most edges
    texts[7].push_back(i < length / 2 ? 0 : static_cast<token_id>(i % 3 == 0));  //
  }
  for (auto const& text : texts) {
    auto const before = allocations;
    for (std::size_t i = 0; i < length; ++i) {
      draft.append({&text[i], 1});
      (void)draft.propose(8);
      if (i % 50 == 49) {
        draft.rewind(7);
        draft.append(std::span{text}.subspan(i - 6, 7));
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

namespace {

// A model that knows nothing but what its pages hold: the next token is a hash of all tokens that
// the block table leads to, so that one stale position changes it.
struct paged_model {
  static constexpr std::size_t page_size = 4;
  static constexpr std::size_t vocab = 50;

  std::vector<token_id> cache = std::vector<token_id>(page_size * 256, -1);
  std::vector<float> logits;
  std::size_t forwards = 0;
  std::size_t tokens_read = 0;
  std::size_t fails_after = std::numeric_limits<std::size_t>::max();  // forwards

  static token_id hash(token_id sum, token_id token) { return (sum * 31 + token + 7) % 1009; }
  static token_id next(tokens const& text) {
    token_id sum = 0;
    for (auto const token : text) { sum = hash(sum, token); }
    return sum % static_cast<token_id>(vocab);
  }

  std::size_t vocab_size() const { return vocab; }
  std::size_t pages() const { return cache.size() / page_size; }
  token_id& at(tpx::step_part const& part, std::size_t position) {
    return cache[part.pages[position / page_size] * page_size + position % page_size];
  }
  std::span<float> forward(std::span<tpx::step_part const> parts) {
    ++forwards;
    logits.clear();
    for (auto const& part : parts) {
      tokens_read += part.tokens.size();
      for (std::size_t i = 0; i < part.tokens.size(); ++i) {
        at(part, part.start + i) = forwards > fails_after ? -1 : part.tokens[i];
      }
      if (part.rows == 0) { continue; }
      token_id sum = 0;
      for (std::size_t i = 0; i < part.start + part.tokens.size(); ++i) {
        sum = hash(sum, at(part, i));
      }
      logits.resize(logits.size() + vocab, 0.0f);
      logits[logits.size() - vocab + static_cast<std::size_t>(sum) % vocab] = 3;
    }
    if (forwards > fails_after) { throw tpx::error{tpx::errc::io, "the model fails"}; }
    return logits;
  }
  void copy(std::span<tpx::page_copy const> copies) {
    for (auto const& c : copies) {
      std::copy_n(cache.begin() + static_cast<std::ptrdiff_t>(c.from * page_size), c.tokens,
                  cache.begin() + static_cast<std::ptrdiff_t>(c.to * page_size));
    }
  }
};

static_assert(tpx::drafter<tpx::ngram_drafter>);
static_assert(tpx::drafter<tpx::model_draft<paged_model>>);
static_assert(tpx::drafter<tpx::model_draft<paged_model, tpx::random_choice<4>>>);

struct recurrent : paged_model {
  std::size_t state_bytes() const { return 8; }
  void save_state(std::uint32_t, std::span<std::byte>) {}
  void load_state(std::uint32_t, std::span<std::byte const>) {}
};

std::vector<tpx::page_id> pages_from(tpx::page_id first) {
  std::vector<tpx::page_id> pages(64);
  for (auto& page : pages) { page = first++; }
  return pages;
}

}  // namespace

TEST_CASE("a draft model's draft is its own greedy text, whatever was accepted", "[draft]") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    std::mt19937 random{seed};
    paged_model model;
    tpx::model_draft drafter{model, {.slots = 3, .most = 6, .chunk = 20}};
    tokens texts[3];
    std::vector<tpx::page_id> const pages[3]{pages_from(0), pages_from(64), pages_from(128)};
    for (auto& text : texts) { text = {static_cast<token_id>(random() % 50), 3, 4}; }
    for (int round = 0; round < 60; ++round) {
      std::vector<tpx::draft_request> requests;
      for (std::uint32_t slot : {2u, 0u, 1u}) {
        if (random() % 4 == 0) { continue; }
        requests.push_back({slot, random() % 8, texts[slot], pages[slot], 0});
      }
      if (random() % 6 == 0) {
        model.fails_after = model.forwards + random() % 4;
        try {
          drafter.propose(requests);
        } catch (tpx::error const&) {}
        model.fails_after = std::numeric_limits<std::size_t>::max();
      } else {
        drafter.propose(requests);
        for (auto const& r : requests) {
          auto expected = texts[r.slot];
          auto const draft = drafter.tokens(r.slot);
          REQUIRE(draft.size() == std::min<std::size_t>(r.most, 6));
          for (auto const token : draft) {
            REQUIRE(token == paged_model::next(expected));
            expected.push_back(token);
          }
        }
      }
      for (auto const& r : requests) {
        // A part of the draft is accepted, and a token of the target's follows.
        auto& text = texts[r.slot];
        auto const draft = drafter.tokens(r.slot);
        auto const accepted = draft.first(random() % (draft.size() + 1));
        text.insert(text.end(), accepted.begin(), accepted.end());
        text.push_back(static_cast<token_id>(random() % 50));
        if (random() % 5 == 0) {
          text.resize(text.size() - random() % std::min<std::size_t>(text.size(), 9));
          drafter.rewind(r.slot, text.size());
        }
        if (text.size() > 200) {
          text = {static_cast<token_id>(random() % 50)};
          drafter.open(r.slot, 0);
        }
      }
    }
  }
}

TEST_CASE("a draft model reads each token once", "[draft]") {
  paged_model model;
  tpx::model_draft drafter{model, {.slots = 1, .most = 4}};
  auto const pages = pages_from(0);
  tokens text{1, 2, 3};
  for (int round = 0; round < 20; ++round) {
    tpx::draft_request const request{0, 4, text, pages, 0};
    drafter.propose({&request, 1});
    auto const draft = drafter.tokens(0);
    text.insert(text.end(), draft.begin(), draft.end());
    text.push_back(paged_model::next(text));
  }
  // Of the last draft of four, the last token and the target's own are yet to be read.
  CHECK(model.tokens_read == text.size() - 2);
  CHECK(model.forwards == 20 * 4);
}

TEST_CASE("a draft model reads a long prompt in chunks, and drafts at its end", "[draft]") {
  paged_model model;
  tpx::model_draft drafter{model, {.slots = 2, .most = 2, .chunk = 10}};
  auto const pages = pages_from(0);
  auto const others = pages_from(64);
  tokens const prompt(35, 5);
  tokens const other{8};
  for (int call = 0; call < 4; ++call) {
    tpx::draft_request const requests[]{{0, 2, prompt, pages, 0}, {1, 2, other, others, 0}};
    drafter.propose(requests);
    CHECK(drafter.tokens(0).size() == (call < 3 ? 0 : 2));
    CHECK(drafter.tokens(1).size() == 2);
  }
  // A prefix that is in the pages already is not read again.
  model.tokens_read = 0;
  drafter.open(1, 32);
  tpx::draft_request const again{1, 1, prompt, pages, 0};
  drafter.propose({&again, 1});
  CHECK(model.tokens_read == 3);
  CHECK(drafter.tokens(1).front() == paged_model::next(prompt));
  // Nor if nothing is to be drafted and all is known.
  tpx::draft_request const none{1, 0, prompt, pages, 0};
  drafter.propose({&none, 1});
  CHECK(model.tokens_read == 3);
}

TEST_CASE("a drafter is told of every copied page", "[draft]") {
  paged_model model;
  tpx::model_draft drafter{model, {.slots = 1, .most = 3}};
  auto pages = pages_from(0);
  tokens const text{9, 8, 7, 6, 5};
  tpx::draft_request request{0, 3, text, pages, 0};
  drafter.propose({&request, 1});
  tpx::page_copy const moves[]{{0, 100, 4}, {1, 101, 4}};
  drafter.copy(moves);
  pages[0] = 100;
  pages[1] = 101;
  model.cache[0] = -1;
  request.pages = pages;
  drafter.propose({&request, 1});
  CHECK(drafter.tokens(0).front() == paged_model::next(text));
}

TEST_CASE("a draft model with recurrent state is refused", "[draft]") {
  recurrent model;
  CHECK_THROWS_AS(tpx::model_draft<recurrent>{model}, tpx::error);
}

TEST_CASE("a drafter refuses slots that it does not have, and drafts nothing for no tokens",
          "[draft]") {
  paged_model model;
  tpx::model_draft drafter{model, {.slots = 2}};
  CHECK_THROWS_AS(drafter.open(2, 0), tpx::error);
  CHECK_THROWS_AS(tpx::ngram_drafter{3}.open(3, 0), tpx::error);
  auto const pages = pages_from(0);
  tpx::draft_request const request{0, 4, {}, pages, 0};
  drafter.propose({&request, 1});
  CHECK(drafter.tokens(0).empty());
  CHECK(model.forwards == 0);
}

TEST_CASE("a greedy choice is the first of the greatest logits", "[draft]") {
  std::vector<tpx::candidate> from;
  auto const inf = std::numeric_limits<float>::infinity();
  auto const nan = std::numeric_limits<float>::quiet_NaN();
  tpx::greedy_choice const choice;
  CHECK(choice(std::vector<float>{1, 3, nan, 3, -inf}, 0, 0, from) == 1);
  CHECK(choice(std::vector<float>{-inf, nan}, 0, 0, from) == -1);
  CHECK(from.empty());
}

TEST_CASE("a random choice is drawn from the likeliest tokens", "[draft]") {
  std::mt19937 random{5};
  std::vector<float> logits(300);
  for (int round = 0; round < 200; ++round) {
    for (auto& l : logits) { l = static_cast<float>(random() % 1000) / 100; }
    std::vector<tpx::candidate> from;
    auto const token =
      tpx::random_choice<8>{0.5f}(logits, 1, static_cast<std::uint64_t>(round), from);
    auto sorted = logits;
    std::ranges::sort(sorted, std::greater{});
    REQUIRE(from.size() == 8);
    double sum = 0;
    bool found = false;
    for (auto const& [t, weight] : from) {
      auto const logit = static_cast<double>(logits[static_cast<std::size_t>(t)]);
      REQUIRE(logit >= static_cast<double>(sorted[7]));
      REQUIRE(std::abs(static_cast<double>(weight) -
                       std::exp((logit - static_cast<double>(sorted[0])) / 0.5)) < 1e-5);
      sum += logit;
      found = found || t == token;
    }
    REQUIRE(found);
    for (std::size_t i = 0; i < 8; ++i) { sum -= static_cast<double>(sorted[i]); }
    REQUIRE(std::abs(sum) < 1e-4);
  }
}

TEST_CASE("the n-gram drafts of a batch are those of its sequences", "[draft]") {
  tpx::ngram_drafter drafter{2};
  tpx::ngram_draft alone[2];
  writer author{3};
  tokens texts[2];
  for (int round = 0; round < 300; ++round) {
    std::uint32_t const slot = author.below(2) == 0 ? 0 : 1;
    auto& text = texts[slot];
    for (auto n = author.below(4) + 1; n > 0; --n) {
      text.push_back(author.next(text));
      alone[slot].append({&text.back(), 1});
    }
    if (author.below(5) == 0) {
      auto const back = author.below(std::min<std::size_t>(6, text.size()));
      text.resize(text.size() - back);
      alone[slot].rewind(back);
      drafter.rewind(slot, text.size());
    }
    if (author.below(40) == 0) {
      text.clear();
      alone[slot].clear();
      drafter.open(slot, 0);
    }
    tpx::draft_request const request{slot, 5, text, {}, 0};
    drafter.propose({&request, 1});
    REQUIRE(std::ranges::equal(drafter.tokens(slot), alone[slot].propose(5)));
  }
}
