// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "page_world.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace pages;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int operations = 2'000;
#else
constexpr int operations = 10'000;
#endif

/// Does anything at random, and says what was wrong.
template <std::size_t PageSize, class Hash>
class walk {
 public:
  walk(tpx::page_table_options const& options, unsigned seed) : w_{options}, random_{seed} {}

  std::string run(int n) {
    for (int i = 0; i < n; ++i) {
      std::string const what = operation();
      try {
        w_.table.validate();
      } catch (tpx::error const& e) {
        return "operation " + std::to_string(i) + ", " + what + ": " + e.what();
      }
      std::string fault = check_keys();
      if (fault.empty() && below(2) == 0) { fault = w_.contents(); }
      if (!fault.empty()) { return "operation " + std::to_string(i) + ", " + what + ": " + fault; }
    }
    return finish();
  }

 private:
  using id = typename world<PageSize, Hash>::id;

  std::size_t below(std::size_t n) {
    return std::uniform_int_distribution<std::size_t>{0, n - 1}(random_);
  }
  token_id token() { return static_cast<token_id>(below(2)); }

  text some_text(std::size_t n) {
    text t(n);
    for (auto& x : t) { x = token(); }
    return t;
  }

  /// A text that often begins like one before it.
  text prompt() {
    std::size_t const most = w_.options.pages * PageSize / 2;
    text t;
    if (!texts_.empty() && below(4) != 0) {
      t = texts_[below(texts_.size())];
      t.resize(1 + below(t.size()));
    }
    t = t + some_text(1 + below(2 * PageSize));
    if (t.size() > most) { t.resize(most); }
    if (texts_.size() < 50) { texts_.emplace_back(); }
    texts_[below(texts_.size())] = t;
    for (auto& x : texts_) {
      if (x.empty()) { x = t; }
    }
    return t;
  }

  void open() {
    text const t = prompt();
    std::size_t const most = w_.options.pages * PageSize - t.size();
    w_.start(t, std::min(most, below(2) * below(4 * PageSize)), below(2));
  }

  id any_open() {
    return std::next(w_.open.begin(), static_cast<std::ptrdiff_t>(below(w_.open.size())))->first;
  }

  /// The tokens of a sequence's next forward: those of its prompt first.
  text next_tokens(id s) {
    auto const& q = w_.open.at(s);
    std::size_t const n = 1 + below(2 * PageSize);
    if (q.tokens.size() >= q.prompt.size()) { return some_text(n); }
    text rest(q.prompt.begin() + static_cast<std::ptrdiff_t>(q.tokens.size()), q.prompt.end());
    rest.resize(std::min(rest.size(), n));
    return rest;
  }

  bool has_room(id s, std::size_t n) {
    std::size_t const length = w_.table.length(s);
    return length + n <= w_.options.pages * PageSize && w_.table.grow(s, n);
  }

  /// One forward over several sequences. Some tokens are drafts that are not kept; now and then it
  /// fails and nothing is; other calls may come while it is on its way.
  void forward() {
    std::vector<std::pair<id, text>> parts;
    for (auto const& [s, q] : w_.open) {
      if (below(2) != 0) { continue; }
      text tokens = next_tokens(s);
      if (!has_room(s, tokens.size())) { continue; }
      w_.table.prepare(s, tokens.size());
      parts.emplace_back(s, tokens);
    }
    w_.table.carry_out(w_.cache);
    bool const fails = below(10) == 0;
    std::vector<std::size_t> kept;
    for (auto const& [s, tokens] : parts) {
      bool const all = w_.open.at(s).tokens.size() < w_.open.at(s).prompt.size() || below(2) == 0;
      kept.push_back(fails ? 0 : all ? tokens.size() : below(tokens.size() + 1));
      w_.forward(s, tokens, kept.back());
    }
    if (below(4) == 0) { open(); }
    if (below(4) == 0) { w_.table.prefetch(prompt(), below(2)); }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      auto const& [s, tokens] = parts[i];
      w_.append(s, std::span{tokens}.first(kept[i]));
    }
  }

  std::string operation() {
    auto const choice = w_.open.empty() ? 0 : below(20);
    if (choice < 5) {
      open();
      return "open";
    }
    if (choice < 10) {
      forward();
      return "forward";
    }
    if (choice < 12) {
      static_cast<void>(has_room(any_open(), below(3 * PageSize)));
      return "grow";
    }
    if (choice < 14) {
      id const s = any_open();
      auto& q = w_.open.at(s);
      std::size_t const length = below(q.tokens.size() + 1);
      w_.table.rewind(s, length);
      q.tokens.resize(length);
      q.prompt.clear();
      return "rewind";
    }
    if (choice < 17) {
      w_.close(any_open());
      return "close";
    }
    if (choice < 18) {
      text const t = prompt();
      w_.table.prefetch(t, below(2), below(4));
      return "prefetch";
    }
    std::size_t const most = 1 + below(4);
    return w_.table.defragment(most) <= most ? "defragment" : "defragment too much";
  }

  /// Keys that were there and are not, without being reported, are in the host tier.
  std::string check_keys() {
    for (auto const& key : w_.table.evicted()) { keys_.erase({key.low, key.high}); }
    w_.table.evicted_done();
    std::set<std::pair<std::uint64_t, std::uint64_t>> there;
    for (page_id page = 0; page < w_.options.pages; ++page) {
      auto const i = w_.table.info(page);
      if (i.tokens == PageSize) { there.insert({i.key.low, i.key.high}); }
    }
    keys_.insert(there.begin(), there.end());
    return keys_.size() - there.size() <= w_.options.host_pages || std::is_same_v<Hash, SameHash> ||
               std::is_same_v<Hash, WeakHash>
             ? ""
             : "a key is gone and not among those evicted";
  }

  /// Left alone, everything gets in order; and when all is closed, nothing is missing.
  std::string finish() {
    for (int i = 0; w_.table.defragment(3) != 0; ++i) {
      if (i == 1000) { return "defragmentation never ends"; }
      w_.table.validate();
    }
    auto const stats = w_.table.stats();
    if (stats.blank + stats.idle != 0 && stats.fragmentation != 0) { return "still fragmented"; }
    std::string const fault = w_.contents();
    if (!fault.empty()) { return "after all, " + fault; }
    while (!w_.open.empty()) { w_.close(any_open()); }
    w_.table.validate();
    auto const end = w_.table.stats();
    return end.blank + end.idle == w_.options.pages && end.used + end.reserved == 0
             ? ""
             : "a page is lost";
  }

  world<PageSize, Hash> w_;
  std::mt19937 random_;
  std::vector<text> texts_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> keys_;
};

/// Walks through tables of several sizes; "" or what was wrong.
template <std::size_t PageSize, class Hash>
std::string walks(int n, unsigned seed) {
  for (std::size_t const pages : {3, 12, 40}) {
    for (std::size_t const host : {0, 5, 60}) {
      std::string const fault =
        walk<PageSize, Hash>{{.pages = pages, .host_pages = host, .max_sequences = 6}, seed}.run(n);
      if (!fault.empty()) {
        return std::to_string(pages) + " pages, " + std::to_string(host) + " on the host, seed " +
               std::to_string(seed) + ", " + fault;
      }
    }
  }
  return "";
}

template <std::size_t PageSize, class Hash>
struct kind {
  static std::string run(int n, unsigned seed) { return walks<PageSize, Hash>(n / 9, seed); }
};

using kinds =
  std::tuple<kind<2, tpx::MultiplyMix>, kind<4, tpx::MultiplyMix>, kind<1, tpx::MultiplyMix>,
             kind<3, WeakHash>, kind<4, SameHash>, kind<64, tpx::MultiplyMix>>;

}  // namespace

TEMPLATE_LIST_TEST_CASE("whatever happens, every sequence finds its tokens in its pages", "[pages]",
                        kinds) {
  for (unsigned seed = 1; seed <= 2; ++seed) { REQUIRE(TestType::run(operations, seed) == ""); }
}

TEMPLATE_LIST_TEST_CASE("whatever happens ten million times, every sequence finds its tokens",
                        "[.long][pages]", kinds) {
  for (unsigned seed = 100; seed < 200; ++seed) { REQUIRE(TestType::run(20'000, seed) == ""); }
}
