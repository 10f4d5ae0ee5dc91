// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Many sequences at once on the llama example's model: what rank 0 leads, the others follow.
#include "counting_new.hpp"
#include "llama/sequence.hpp"
#include "llama/tokenizer.hpp"
#include "llama_world.hpp"

#include <catch2/catch_test_macros.hpp>

#include <random>
#include <thread>

namespace {

using namespace world;
using row = std::vector<float>;

using alone_t = llama::model<comm_t>;       // pages of 32
using served_t = llama::model<comm_t, 16>;  // of 16
using leader_t = llama::leader<served_t>;
static_assert(generator_model<leader_t>);
static_assert(tiered_model<leader_t>);
static_assert(!recurrent_model<leader_t>);
static_assert(vocabulary<llama::tokenizer>);

/// A text of which the tokens from `prompt` - 1 on have logits that are looked at.
struct text {
  ids tokens;
  std::size_t prompt;
  std::vector<row> logits{};  // after tokens[prompt - 1], tokens[prompt], ...
};

/// `count` texts with prompts of up to `longest` tokens and up to six tokens more.
std::vector<text> texts(ids const& from, std::size_t count, std::size_t longest, unsigned seed) {
  std::mt19937 random{seed};
  auto const up_to = [&](std::size_t n) { return random() % n + 1; };
  std::vector<text> all;
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t const prompt = up_to(longest);
    std::size_t const size = prompt + up_to(6) - 1;
    auto const begin = from.begin() + static_cast<std::ptrdiff_t>(random() % (from.size() - size));
    all.push_back({ids(begin, begin + static_cast<std::ptrdiff_t>(size)), prompt});
  }
  return all;
}

/// Fills in the logits that each text has when it has n ranks to itself.
void run_alone(llama::checkpoint const& files, int n, std::vector<text>& all) {
  auto const plan = plan_of(files, n);
  on_ranks(n, [&](group& g) {
    comm_t comm{g};
    alone_t model{comm, files, plan};
    llama::sequence<alone_t> one{model};
    for (auto& t : all) {
      one.rewind();
      std::span<token_id const> next = std::span{t.tokens}.first(t.prompt);
      for (std::size_t end = t.prompt;; ++end) {
        auto const logits = one.forward(next);
        if (g.rank() == 0) { t.logits.emplace_back(logits.begin(), logits.end()); }
        if (end == t.tokens.size()) { break; }
        next = std::span{t.tokens}.subspan(end, 1);
      }
    }
  });
}

/// Runs all texts at once in steps of random parts, and between them moves their pages about.
/// Returns how many logits had other bits than `all` says, of how many.
template <class Leader>
std::pair<std::size_t, std::size_t> run_together(Leader& model, std::vector<text> const& all,
                                                 unsigned seed) {
  std::mt19937 random{seed};
  constexpr std::size_t page = Leader::page_size;
  std::vector<page_id> free(model.pages());
  for (std::size_t i = 0; i < free.size(); ++i) { free[i] = static_cast<page_id>(i); }
  std::ranges::shuffle(free, random);
  auto const a_page = [&] {
    std::swap(free[random() % free.size()], free.back());
    auto const taken = free.back();
    free.pop_back();
    return taken;
  };
  std::vector<std::size_t> length(all.size());
  std::vector<std::vector<page_id>> pages(all.size());
  std::pair<std::size_t, std::size_t> wrong_of{};
  for (;;) {
    std::vector<step_part> parts;
    std::vector<std::size_t> who;
    for (std::size_t i = 0; i < all.size(); ++i) {
      std::size_t const left = all[i].tokens.size() - length[i];
      if (left == 0 || random() % 4 == 0) { continue; }
      std::size_t const n =
        std::min(left, random() % 3 == 0 ? random() % 60 + 1 : random() % 5 + 1);
      while (pages[i].size() * page < length[i] + n) { pages[i].push_back(a_page()); }
      std::size_t const end = length[i] + n;
      std::size_t const rows = end < all[i].prompt ? 0 : std::min(n, end - all[i].prompt + 1);
      parts.push_back({.tokens = std::span{all[i].tokens}.subspan(length[i], n),
                       .start = length[i],
                       .pages = pages[i],
                       .rows = rows,
                       .slot = 0});
      who.push_back(i);
    }
    auto const logits = model.forward(parts);
    std::size_t at = 0;
    for (std::size_t k = 0; k < parts.size(); ++k) {
      auto& end = length[who[k]];
      end += parts[k].tokens.size();
      auto const& t = all[who[k]];
      for (std::size_t r = end - parts[k].rows; r < end; ++r, at += model.vocab_size()) {
        auto const& wanted = t.logits[r + 1 - t.prompt];
        ++wrong_of.second;
        wrong_of.first += std::memcmp(wanted.data(), logits.data() + at, wanted.size() * 4) != 0;
      }
    }
    if (at != logits.size()) { wrong_of.first += 1000; }
    std::vector<page_copy> copies;
    std::vector<page_id> left;
    bool done = true;
    for (std::size_t i = 0; i < all.size(); ++i) {
      done = done && length[i] == all[i].tokens.size();
      if (pages[i].empty() || free.size() < 2 || random() % 3 != 0) { continue; }
      std::size_t const p = random() % pages[i].size();
      std::size_t const some = std::min(page, length[i] - std::min(length[i], p * page));
      auto const to = a_page();
      if (random() % 2 == 0) {
        auto const host = static_cast<std::uint32_t>(random() % model.host_pages());
        model.store(pages[i][p], host, some);
        model.fetch(host, to, some);
      } else {
        copies.push_back({pages[i][p], to, some});
      }
      left.push_back(std::exchange(pages[i][p], to));
    }
    model.copy(copies);
    free.insert(free.end(), left.begin(), left.end());
    if (done) { return wrong_of; }
  }
}

/// Logits with other bits together than alone, of n ranks.
std::string differences(std::string const& folder, int n, std::size_t count, std::size_t longest) {
  auto const files = llama::checkpoint::open(folder);
  auto all = texts(golden(bible).at("logits").at("window_ids").get<ids>(), count, longest,
                   static_cast<unsigned>(n));
  run_alone(files, n, all);
  std::pair<std::size_t, std::size_t> wrong_of{};
  on_leader<served_t>(files, n, {.pages = 2 * count * (longest / 16 + 2), .host_pages = 3},
                      [&](leader_t& leader) { wrong_of = run_together(leader, all, 7); });
  std::size_t expected = 0;
  for (auto const& t : all) { expected += t.tokens.size() - t.prompt + 1; }
  return wrong_of == std::pair{std::size_t{0}, expected}
           ? ""
           : std::to_string(wrong_of.first) + " of " + std::to_string(wrong_of.second) +
               " rows differ, where " + std::to_string(expected) + " were wanted";
}

/// A model that fails at its third step on rank `Rank`, after `delay`.
template <int Rank>
struct failing : served_t {
  failing(comm_t& comm, llama::checkpoint const& files, split_plan const& plan,
          llama::model_options const& options)
      : served_t{comm, files, plan, options}, rank{comm.rank()} {}
  std::span<float> forward(std::span<step_part const> parts) {
    if (++steps == 3 && rank == Rank) { throw std::bad_alloc{}; }
    return served_t::forward(parts);
  }
  int rank;
  int steps = 0;
};

template <class F>
errc code_of(F&& f) {
  try {
    f();
  } catch (tpx::error const& e) { return e.code(); }
  return errc::ok;
}

}  // namespace

TEST_CASE("a token's logits have the same bits alone, in a batch, in chunks and on moved pages") {
  for (int n : {1, 2, 4, 8}) {
    if (sanitized && n > 2) { continue; }
    INFO(n << " ranks");
    CHECK(differences(qwen2, n, 32, sanitized ? 40 : 150) == "");
    if (n < 4) { CHECK(differences(bible, n, sanitized ? 4 : 32, 40) == ""); }
  }
}

TEST_CASE("greedy texts that grow side by side are PyTorch's, on 1, 2, 4 and 8 ranks") {
  for (auto const& folder : {bible, qwen2}) {
    auto const files = llama::checkpoint::open(folder);
    auto const expected = golden(folder).at("greedy");
    std::size_t const count = expected.size();
    std::size_t const length = sanitized ? 6 : 32;
    for (int n : {1, 2, 4, 8}) {
      if (sanitized && n > 2) { continue; }
      std::vector<ids> texts, wanted;
      std::vector<std::vector<page_id>> pages(count);
      for (std::size_t i = 0; i < count; ++i) {
        texts.push_back(expected[i].at("prompt_ids").get<ids>());
        wanted.push_back(expected[i].at("ids").get<ids>());
        wanted[i].resize(std::min(length, wanted[i].size()));
        for (std::size_t p = 0; p < 16; ++p) {
          pages[i].push_back(static_cast<page_id>(i + p * count));
        }
      }
      std::vector<ids> got(count);
      on_leader<served_t>(files, n, {.pages = 16 * count}, [&](leader_t& leader) {
        std::vector<std::size_t> used(count);
        for (;;) {
          std::vector<step_part> parts;
          std::vector<std::size_t> who;
          for (std::size_t i = 0; i < count; ++i) {
            if (got[i].size() == wanted[i].size()) { continue; }
            parts.push_back({.tokens = std::span{texts[i]}.subspan(used[i]),
                             .start = used[i],
                             .pages = pages[i],
                             .rows = 1,
                             .slot = 0});
            who.push_back(i);
          }
          if (parts.empty()) { return; }
          auto const logits = leader.forward(parts);
          for (std::size_t k = 0; k < who.size(); ++k) {
            auto const mine = logits.subspan(k * leader.vocab_size(), leader.vocab_size());
            auto const best = std::ranges::max_element(mine) - mine.begin();
            used[who[k]] = texts[who[k]].size();
            texts[who[k]].push_back(static_cast<token_id>(best));
            got[who[k]].push_back(static_cast<token_id>(best));
          }
        }
      });
      INFO(folder << " on " << n << " ranks");
      CHECK(got == wanted);
    }
  }
}

TEST_CASE("what a leader refuses changes nothing on any rank") {
  auto const files = llama::checkpoint::open(qwen2);
  ids const start{5, 6, 7, 8};
  ids const outside{5, 2048}, long_one(21, 5);
  std::vector<page_id> const pages{0, 1}, missing{0, 9};
  bool refused = true, unchanged = true;
  on_leader<served_t>(
    files, 2, {.max_tokens = 20, .pages = 2, .host_pages = 1}, [&](leader_t& leader) {
      auto const part = [&](ids const& tokens, std::size_t first, auto const& table,
                            std::size_t rows) {
        return step_part{std::span{tokens}.subspan(first), first, table, rows, 0};
      };
      auto const run = [&](step_part const& p) {
        auto const logits = leader.forward({&p, 1});
        return row(logits.begin(), logits.end());
      };
      auto const whole = run(part(start, 0, pages, 2));
      for (auto const& bad :
           {part(start, 4, pages, 0), part(start, 0, pages, 5), part(outside, 0, pages, 1),
            part(long_one, 0, pages, 1), part(long_one, 2, missing, 1),
            part(long_one, 3, std::span{pages}.first(1), 1)}) {
        step_part const two[]{part(start, 0, pages, 1), bad};
        refused = refused && code_of([&] { leader.forward(two); }) == errc::invalid_argument;
      }
      page_copy const copies[]{{1, 0, 16}, {0, 2, 16}};
      refused = refused && code_of([&] { leader.copy(copies); }) == errc::invalid_argument;
      refused = refused && code_of([&] { leader.store(0, 1, 2); }) == errc::invalid_argument;
      refused = refused && code_of([&] { leader.fetch(0, 1, 17); }) == errc::invalid_argument;
      auto const end = run(part(start, 3, pages, 1));
      unchanged = std::ranges::equal(end, std::span{whole}.last(end.size()));
      unchanged = unchanged && leader.forward({}).empty();
    });
  CHECK(refused);
  CHECK(unchanged);
}

TEST_CASE("a step that fails on any rank is the leader's error, and every later one's") {
  auto const files = llama::checkpoint::open(qwen2);
  std::vector<page_id> const pages{0, 1};
  ids const one{5};
  notes found;
  auto const lead = [&](auto& leader) {
    auto const step = [&](std::size_t at) {
      return code_of([&] {
        step_part const part{one, at, pages, 1, 0};
        leader.forward({&part, 1});
      });
    };
    if (step(0) != errc::ok || step(1) != errc::ok) { found.add("a good step failed"); }
    if (step(2) != errc::rank_failed) { found.add("the failure of a rank did not show"); }
    if (step(3) != errc::rank_failed) { found.add("it did not last"); }
    if (code_of([&] { leader.store(0, 0, 1); }) != errc::rank_failed) {
      found.add("other orders go on");
    }
  };
  llama::model_options const options{.pages = 2, .host_pages = 1};
  for (int n : {2, 4}) {
    CHECK(code_of([&] { on_leader<failing<0>>(files, n, options, lead); }) == errc::rank_failed);
    CHECK(code_of([&] { on_leader<failing<1>>(files, n, options, lead); }) == errc::rank_failed);
  }
  CHECK(found.all() == "");
}

TEST_CASE("a rank that does not follow, or that is late, ends the leader's step") {
  auto const files = llama::checkpoint::open(qwen2);
  auto const plan = plan_of(files, 3);
  for (bool late : {false, true}) {
    auto found = errc::ok;
    auto const run = [&](group& g) {
      comm_t comm{g};
      served_t own{comm, files, plan, {.pages = 2}};
      llama::orders orders{g};
      if (g.rank() == 1) { return llama::follow(own, orders); }
      if (g.rank() == 2) {
        while (late && !g.me().aborted()) {
          std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
        return;
      }
      llama::leader<served_t> leader{g, own, orders};
      std::vector<page_id> const pages{0, 1};
      ids const one{5};
      step_part const part{one, 0, pages, 1, 0};
      found = code_of([&] { leader.forward({&part, 1}); });
    };
    CHECK(code_of([&] { on_ranks(3, run, std::chrono::milliseconds{300}); }) != errc::ok);
    CHECK(found == (late ? errc::timeout : errc::left));
  }
}

namespace {

/// Notes how often a rank allocates between one step's beginning and the next one's.
struct counted : served_t {
  using served_t::served_t;
  std::span<float> forward(std::span<step_part const> parts) {
    between.push_back(allocations - before);
    before = allocations;
    return served_t::forward(parts);
  }
  ~counted() {
    if (notes* const to = found) {
      for (std::size_t i = 3; i < between.size(); ++i) {
        if (between[i] != 0) { to->add("step " + std::to_string(i) + " allocates"); }
      }
      if (between.size() != 20) { to->add("a step is missing"); }
    }
  }
  static inline notes* found = nullptr;
  std::vector<std::size_t> between = [] {
    std::vector<std::size_t> v;
    v.reserve(100);
    return v;
  }();
  std::size_t before = 0;
};

}  // namespace

TEST_CASE("steady steps allocate nothing on the leader and on those who follow") {
  auto const files = llama::checkpoint::open(qwen2);
  std::vector<std::vector<page_id>> pages;
  for (page_id p = 0; p < 32; ++p) { pages.push_back({p, p + 32}); }
  ids const tokens(32, 5);
  for (int n : {1, 3}) {
    notes found;
    counted::found = &found;
    on_leader<counted>(files, n, {.pages = 64, .host_pages = 1}, [&](auto& leader) {
      std::vector<step_part> parts;
      parts.reserve(32);
      for (std::size_t step = 0; step < 20; ++step) {
        parts.clear();
        for (auto const& table : pages) {  // three longer parts, some with drafts, and decodes
          std::size_t const some = parts.size() < 3 ? 31 : 1;
          parts.push_back(
            {std::span{tokens}.first(some), std::min<std::size_t>(step, 1), table, 1, 0});
        }
        page_copy const copy{1, 2, 1};
        leader.copy({&copy, 1});
        leader.store(1, 0, 1);
        leader.fetch(0, 1, 1);
        leader.forward(parts);
      }
    });
    INFO(n << " ranks");
    CHECK(found.all() == "");
  }
}
