// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

/// What the tests of the page table share: a cache that remembers what was written into it, and
/// sequences written down in full beside it.
namespace pages {

using tpx::page_id;
using tpx::token_id;
using text = std::vector<token_id>;

/// All prefixes are alike.
struct SameHash {
  static tpx::hash128 chain(tpx::hash128, std::span<token_id const>) noexcept { return {1, 1}; }
};

/// Few keys, and they depend on the page alone.
struct WeakHash {
  static tpx::hash128 chain(tpx::hash128, std::span<token_id const> tokens) noexcept {
    return {static_cast<std::uint64_t>(tokens[0]) % 3, 0};
  }
};

/// What lies at a position is a function of the salt and of all tokens up to it, as keys and values
/// are: here their number in a list of all such strings.
template <std::size_t PageSize>
class fake_cache {
 public:
  fake_cache(std::size_t pages, std::size_t host_pages)
      : pages_(pages * PageSize), host_(host_pages * PageSize) {}

  static constexpr std::size_t page_size = PageSize;
  [[nodiscard]] std::size_t vocab_size() const { return 1; }
  [[nodiscard]] std::size_t pages() const { return pages_.size() / PageSize; }
  [[nodiscard]] std::size_t host_pages() const { return host_.size() / PageSize; }
  std::span<float> forward(std::span<tpx::step_part const>) { return {}; }

  void copy(std::span<tpx::page_copy const> copies) {
    for (auto const& c : copies) { move(pages_, c.from, pages_, c.to, c.tokens); }
  }
  void store(page_id page, std::uint32_t host, std::size_t tokens) {
    move(pages_, page, host_, host, tokens);
  }
  void fetch(std::uint32_t host, page_id page, std::size_t tokens) {
    move(host_, host, pages_, page, tokens);
  }

  void write(std::span<page_id const> table, std::size_t position, std::uint64_t value) {
    cell(table, position) = value;
  }
  [[nodiscard]] std::uint64_t read(std::span<page_id const> table, std::size_t position) {
    return cell(table, position);
  }

 private:
  std::uint64_t& cell(std::span<page_id const> table, std::size_t position) {
    return pages_.at(table[position / PageSize] * PageSize + position % PageSize);
  }

  void move(std::vector<std::uint64_t> const& from, std::size_t a, std::vector<std::uint64_t>& to,
            std::size_t b, std::size_t tokens) const {
    for (std::size_t i = 0; i < tokens; ++i) {
      to.at(b * PageSize + i) = from.at(a * PageSize + i);
    }
  }

  std::vector<std::uint64_t> pages_;
  std::vector<std::uint64_t> host_;
};
static_assert(tpx::tiered_model<fake_cache<4>>);

/// Numbers prefixes: a trie.
class prefixes {
 public:
  std::uint64_t root(std::uint64_t salt) { return number({0, salt, -1}); }
  std::uint64_t next(std::uint64_t prefix, token_id token) { return number({1, prefix, token}); }

 private:
  std::uint64_t number(std::tuple<int, std::uint64_t, token_id> const& edge) {
    return numbers_.try_emplace(edge, numbers_.size() + 1).first->second;
  }
  std::map<std::tuple<int, std::uint64_t, token_id>, std::uint64_t> numbers_;
};

/// A page table with a cache, and with every open sequence's tokens written down in full.
template <std::size_t PageSize, class Hash = tpx::MultiplyMix>
struct world {
  using table_type = tpx::page_table<PageSize, Hash>;
  using id = typename table_type::sequence_id;
  struct sequence {
    std::uint64_t salt;
    text tokens;         // written
    text prompt;         // all of it: what is not yet written comes first
    std::size_t cached;  // when it was opened
  };

  // Not inlined, or sanitizers make a test of many worlds slow to compile.
  [[gnu::noinline]] explicit world(tpx::page_table_options const& o)
      : options{o}, table{o}, cache{o.pages, o.host_pages} {}
  [[gnu::noinline]] ~world() = default;

  tpx::page_table_options options;
  table_type table;
  fake_cache<PageSize> cache;
  prefixes known;
  std::map<id, sequence> open;

  /// Opens a sequence; -1 if it was refused.
  [[gnu::noinline]] int start(text const& prompt, std::size_t room = 0, std::uint64_t salt = 0) {
    auto const made = table.open(prompt, room, salt);
    if (!made) { return -1; }
    auto const there = prompt.begin() + static_cast<std::ptrdiff_t>(made->cached);
    open[made->sequence] = {salt, {prompt.begin(), there}, prompt, made->cached};
    return static_cast<int>(made->sequence);
  }

  /// What the cache should hold after `tokens`.
  std::vector<std::uint64_t> values(std::uint64_t salt, text const& tokens) {
    std::vector<std::uint64_t> all;
    std::uint64_t prefix = known.root(salt);
    for (token_id const t : tokens) { all.push_back(prefix = known.next(prefix, t)); }
    return all;
  }

  /// The writes of a forward over `tokens` more; `kept` of them are right, the others garbage.
  void forward(id s, std::span<token_id const> tokens, std::size_t kept) {
    auto const table_row = table.pages(s);
    auto& q = open.at(s);
    std::uint64_t prefix = known.root(q.salt);
    for (token_id const t : q.tokens) { prefix = known.next(prefix, t); }
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      prefix = known.next(prefix, tokens[i]);
      cache.write(table_row, q.tokens.size() + i, i < kept ? prefix : 0);
    }
  }

  void append(id s, std::span<token_id const> tokens) {
    table.append(s, tokens);
    auto& q = open.at(s);
    q.tokens.insert(q.tokens.end(), tokens.begin(), tokens.end());
  }

  /// One forward of one sequence.
  [[gnu::noinline]] void step(id s, std::span<token_id const> tokens) {
    table.prepare(s, tokens.size());
    table.carry_out(cache);
    forward(s, tokens, tokens.size());
    append(s, tokens);
  }

  /// Writes what is missing of the prompt.
  [[gnu::noinline]] void prefill(id s) {
    auto const& q = open.at(s);
    step(s, text(q.prompt.begin() + static_cast<std::ptrdiff_t>(q.tokens.size()), q.prompt.end()));
  }

  [[gnu::noinline]] void close(id s) {
    table.close(s);
    open.erase(s);
  }

  /// Opens, writes and closes: the prompt is cache then. Returns how much of it was already.
  [[gnu::noinline]] std::size_t visit(text const& prompt, std::uint64_t salt = 0) {
    auto const s = static_cast<id>(start(prompt, 0, salt));
    auto const cached = open.at(s).cached;
    prefill(s);
    close(s);
    return cached;
  }

  /// "" if the cache holds, for every open sequence, what it should once all moves are carried out.
  [[gnu::noinline]] std::string contents() {
    table.carry_out(cache);
    for (auto const& [s, q] : open) {
      std::string const name = "sequence " + std::to_string(s);
      if (table.length(s) != q.tokens.size()) { return name + " has another length"; }
      auto const row = table.pages(s);
      auto const wanted = values(q.salt, q.tokens);
      for (std::size_t p = 0; p < wanted.size(); ++p) {
        if (cache.read(row, p) != wanted[p]) {
          return name + ", position " + std::to_string(p) + ", page " +
                 std::to_string(row[p / PageSize]) + " holds something else";
        }
      }
      tpx::hash128 key{q.salt, 0};
      for (std::size_t i = 0; (i + 1) * PageSize <= q.tokens.size(); ++i) {
        key = Hash::chain(key, std::span{q.tokens}.subspan(i * PageSize, PageSize));
        if (!(table.key(s, i) == key)) { return name + " has another key"; }
      }
    }
    return "";
  }
};

/// first, first + 1, ...
inline text count(token_id first, std::size_t n) {
  text all(n);
  for (std::size_t i = 0; i < n; ++i) { all[i] = first + static_cast<token_id>(i); }
  return all;
}

inline text operator+(text a, text const& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace pages
