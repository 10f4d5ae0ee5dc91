// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Token masks of regular expressions and JSON schemas over a synthetic vocabulary of 128,256
// pieces: one fill a token of a text. For "cold" the grammar knows no state yet, for "warm" it has
// met all. Counters are µs of a single fill.
#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/filter.hpp>
#include <tpx/generator/json_schema_filter.hpp>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/regex_filter.hpp>
#include <tpx/generator/token_trie.hpp>

#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t vocab_size = 128256;

struct pieces {
  std::vector<std::string> all;

  [[nodiscard]] std::size_t size() const { return all.size(); }
  [[nodiscard]] std::string_view piece(tpx::token_id t) const {
    return all[static_cast<std::size_t>(t)];
  }
};

/// Of the kinds that a byte-level BPE has: bytes, numbers, signs, words with and without a space in
/// front, and a fifth that is not ASCII.
pieces vocabulary() {
  std::mt19937 random{1};
  auto const below = [&](std::size_t n) { return random() % n; };
  std::set<std::string> all;
  for (int b = 0; b < 256; ++b) { all.insert(std::string(1, static_cast<char>(b))); }
  for (int n = 0; n < 1000; ++n) { all.insert(std::to_string(n)); }
  constexpr std::string_view signs = "\"\"{}[]:,,  \n()<>=;.-_/\\'*#";
  while (all.size() < 4000) {
    std::string piece;
    for (auto n = 2 + below(4); n > 0; --n) { piece += signs[below(signs.size())]; }
    all.insert(piece);
  }
  constexpr char const* syllables[]{
    "ba", "ce", "di",   "for", "gu",  "he", "in", "ja", "ki", "lo", "men", "ne", "or", "pra", "qui",
    "re", "st", "tion", "un",  "ver", "wo", "xe", "yl", "za", "er", "ing", "ed", "al", "s"};
  while (all.size() < 100'000) {
    std::string piece = below(2) == 0 ? " " : "";
    for (auto n = 1 + below(4); n > 0; --n) { piece += syllables[below(std::size(syllables))]; }
    if (below(50) == 0) { piece += signs[below(signs.size())]; }
    all.insert(piece);
  }
  while (all.size() < vocab_size) {
    std::string piece = below(3) == 0 ? " " : "";
    for (auto n = 1 + below(3); n > 0; --n) {
      tpx::detail::write_char(piece, static_cast<char32_t>(below(2) == 0 ? 0x400 + below(0x200)
                                                                         : 0x4e00 + below(0x2000)));
    }
    if (below(30) == 0) { piece.pop_back(); }
    all.insert(piece);
  }
  pieces shuffled{{all.begin(), all.end()}};
  std::shuffle(shuffled.all.begin(), shuffled.all.end(), random);
  return shuffled;
}

pieces const& words() {
  static pieces const p = vocabulary();
  return p;
}

std::shared_ptr<tpx::token_trie const> trie() {
  static auto const t = std::make_shared<tpx::token_trie const>(words());
  return t;
}

/// A text as the longest pieces that fit.
std::vector<tpx::token_id> tokens_of(std::string_view text) {
  auto const nodes = trie()->all().nodes();
  std::vector<tpx::token_id> tokens;
  while (!text.empty()) {
    tpx::token_id best = -1;
    std::uint32_t under = 0;
    for (std::size_t depth = 0; depth < text.size(); ++depth) {
      auto i = under + 1;
      while (i < nodes[under].end && nodes[i].byte != static_cast<std::uint8_t>(text[depth])) {
        i = nodes[i].end;
      }
      if (i >= nodes[under].end) { break; }
      under = i;
      if (!trie()->all().tokens(i).empty()) { best = trie()->all().tokens(i)[0]; }
    }
    tokens.push_back(best);
    text.remove_prefix(trie()->piece(best).size());
  }
  return tokens;
}

constexpr std::string_view schema = R"({
  "type": "object",
  "properties": {
    "name": {"type": "string", "maxLength": 60},
    "kind": {"enum": ["person", "place", "thing"]},
    "age": {"type": "integer"},
    "score": {"type": "number"},
    "mail": {"type": "string", "pattern": "^[\\w.+-]+@[\\w-]+\\.(com|org|net)$"},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
    "address": {"type": "object",
      "properties": {"street": {"type": "string"}, "number": {"type": "integer"},
                     "city": {"type": "string"}, "note": {"type": ["string", "null"]}},
      "required": ["street", "city"], "additionalProperties": false},
    "parent": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}
  },
  "required": ["name", "kind", "address"],
  "additionalProperties": false})";

constexpr std::string_view document =
  R"({"name": "reing forstal verza", "kind": "person", "age": 42, "score": -12.75e2, )"
  R"("mail": "dipra.lo+x@quiver-men.org", "tags": ["unverza", "st ce di", "бвг 丁丂"], )"
  R"("address": {"street": "woloing \"kija\" 7", "number": 17, "city": "menneor", "note": null}, )"
  R"("parent": {"name": "xe", "kind": "thing", "address": {"street": "yl", "city": "za"}, )"
  R"("parent": null}})";

template <class Make>
void fills(benchmark::State& state, std::string_view text, bool warm, Make make) {
  auto const tokens = tokens_of(text);
  std::vector<std::uint32_t> mask(tpx::mask_words(vocab_size));
  std::vector<double> us(tokens.size(), 1e9);  // least of all passes, by token: others run here too
  auto const pass = [&](auto& filter, bool timed) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      auto const begin = std::chrono::steady_clock::now();
      filter.fill(mask);
      auto const end = std::chrono::steady_clock::now();
      if (timed) {
        us[i] = std::min(us[i], std::chrono::duration<double, std::micro>(end - begin).count());
      }
      benchmark::DoNotOptimize(mask.data());
      filter.accept(tokens[i]);
    }
    filter.rewind(tokens.size());
  };
  auto kept = make();
  if (warm) { pass(kept, false); }
  for (auto _ : state) {
    if (warm) {
      pass(kept, true);
    } else {
      auto fresh = make();
      pass(fresh, true);
    }
  }
  std::ranges::sort(us);
  auto const at = [&](double part) {
    return us[static_cast<std::size_t>(part * static_cast<double>(us.size() - 1))];
  };
  state.counters["median"] = at(0.5);
  state.counters["p90"] = at(0.9);
  state.counters["max"] = us.back();
  state.counters["tokens"] = static_cast<double>(tokens.size());
  state.counters["KiB"] = static_cast<double>(kept.grammar().bytes()) / 1024;
}

auto any_json() {
  return tpx::json_schema_filter{trie(), "{}"};
}
auto by_schema() {
  return tpx::json_schema_filter{trie(), schema};
}
auto by_regex() {
  return tpx::regex_filter{trie(), R"((\w+ ){3}[^"]*\d{2,4}(-\d+)*)"};
}
constexpr std::string_view regex_text = "reing for verza unver zast бвг 12-3345-6";

void json_warm(benchmark::State& state) {
  fills(state, document, true, any_json);
}
void json_cold(benchmark::State& state) {
  fills(state, document, false, any_json);
}
void schema_warm(benchmark::State& state) {
  fills(state, document, true, by_schema);
}
void schema_cold(benchmark::State& state) {
  fills(state, document, false, by_schema);
}
void regex_warm(benchmark::State& state) {
  fills(state, regex_text, true, by_regex);
}
void regex_cold(benchmark::State& state) {
  fills(state, regex_text, false, by_regex);
}

void compile_json(benchmark::State& state) {
  for (auto _ : state) { benchmark::DoNotOptimize(any_json().finished()); }
}
void compile_schema(benchmark::State& state) {
  for (auto _ : state) { benchmark::DoNotOptimize(by_schema().finished()); }
}
void make_trie(benchmark::State& state) {
  for (auto _ : state) { benchmark::DoNotOptimize(tpx::token_trie{words()}.size()); }
}

void fill_allowed_tokens(benchmark::State& state) {
  tpx::any_filter filter = tpx::allowed_tokens{vocab_size, {1, 2, 3, 70'000}};
  std::vector<std::uint32_t> mask(tpx::mask_words(vocab_size));
  for (auto _ : state) {
    filter.fill(mask);
    benchmark::DoNotOptimize(mask.data());
  }
}

void and_masks(benchmark::State& state) {
  std::vector<std::uint32_t> mask(tpx::mask_words(vocab_size), ~0u);
  auto const other = mask;
  for (auto _ : state) {
    tpx::mask_and(mask, other);
    benchmark::DoNotOptimize(mask.data());
  }
}

void find_mask_empty(benchmark::State& state) {
  std::vector<std::uint32_t> mask(tpx::mask_words(vocab_size), 0u);
  for (auto _ : state) {
    benchmark::DoNotOptimize(mask.data());
    benchmark::DoNotOptimize(tpx::mask_empty(mask));
  }
}

void count_mask(benchmark::State& state) {
  std::vector<std::uint32_t> mask(tpx::mask_words(vocab_size), 0x12345678u);
  for (auto _ : state) {
    benchmark::DoNotOptimize(mask.data());
    benchmark::DoNotOptimize(tpx::mask_count(mask));
  }
}

}  // namespace

BENCHMARK(json_warm)->Unit(benchmark::kMicrosecond);
BENCHMARK(json_cold)->Unit(benchmark::kMicrosecond);
BENCHMARK(schema_warm)->Unit(benchmark::kMicrosecond);
BENCHMARK(schema_cold)->Unit(benchmark::kMicrosecond);
BENCHMARK(regex_warm)->Unit(benchmark::kMicrosecond);
BENCHMARK(regex_cold)->Unit(benchmark::kMicrosecond);
BENCHMARK(compile_json)->Unit(benchmark::kMicrosecond);
BENCHMARK(compile_schema)->Unit(benchmark::kMicrosecond);
BENCHMARK(make_trie)->Unit(benchmark::kMillisecond);
BENCHMARK(fill_allowed_tokens)->Unit(benchmark::kMicrosecond);
BENCHMARK(and_masks);
BENCHMARK(find_mask_empty);
BENCHMARK(count_mask);
