// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What a token's text costs, of tokens of 4 bytes on average.
#include <tpx/generator/loop_detector.hpp>
#include <tpx/generator/matcher.hpp>
#include <tpx/generator/text_stream.hpp>

#include <array>
#include <benchmark/benchmark.h>
#include <cstddef>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::array<std::string_view, 16> stop_strings{
  "\nUser:",      "</s>",   "<|im_end|>", "\n\n\n",    "### Instruction", "\nHuman:",
  "Observation:", "[INST]", "<|eot|>",    "\nQ:",      "```\n",           "THE END",
  "</tool>",      "\n---",  "Thought",    "Assistant:"};

std::vector<tpx::text_pattern> patterns(std::size_t count, tpx::text_action action) {
  std::vector<tpx::text_pattern> all;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back({.text = stop_strings[i], .action = action});
  }
  return all;
}

/// English letters by their frequency, in pieces of 1 to 7 bytes.
std::vector<std::string> const& pieces() {
  static std::vector<std::string> const all = [] {
    constexpr std::string_view letters{
      "      eeeeeeeettttttaaaaaooooooiiiiinnnnnsssshhhhhrrrrdddllluucccmmffyywwggppbbvk\n.,TA<"};
    std::mt19937 random{1};
    std::vector<std::string> made;
    while (made.size() < 4096) {
      std::string piece;
      for (auto n = 1 + random() % 7; n > 0; --n) { piece += letters[random() % letters.size()]; }
      bool stops = false;
      for (auto const stop : stop_strings) { stops = stops || piece.find(stop) != piece.npos; }
      if (!stops) { made.push_back(piece); }
    }
    return made;
  }();
  return all;
}

void per_token(benchmark::State& state) {
  auto const tokens =
    static_cast<double>(pieces().size()) * static_cast<double>(state.iterations());
  state.counters["a token"] =
    benchmark::Counter(tokens, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// The matcher alone: run over the token, and how much may become a match.
void match(benchmark::State& state) {
  tpx::matcher const m{patterns(static_cast<std::size_t>(state.range(0)), tpx::text_action::Stop)};
  for (auto _ : state) {
    auto s = m.start();
    std::size_t held = 0;
    for (auto const& piece : pieces()) {
      m.run(s, piece);
      if (tpx::matcher::matched(s)) { s = m.start(); }
      held += m.depth(s);
    }
    benchmark::DoNotOptimize(held);
  }
  per_token(state);
}
BENCHMARK(match)->Arg(1)->Arg(4)->Arg(16)->ArgName("patterns");

/// The whole stream: characters, hold-back, counts of tokens.
void stream(benchmark::State& state) {
  auto const rules = std::make_shared<tpx::text_rules const>(tpx::text_rules{
    .patterns =
      tpx::matcher{patterns(static_cast<std::size_t>(state.range(0)), tpx::text_action::Stop)},
    .stop_tokens = {-1, -2}});
  for (auto _ : state) {
    tpx::text_stream text{rules};
    std::size_t sent = 0;
    for (auto const& piece : pieces()) {
      auto const event = text.push(0, piece);
      sent += event.text.size();
      if (event.end != tpx::text_end::none) { text = tpx::text_stream{rules}; }
    }
    benchmark::DoNotOptimize(sent);
  }
  per_token(state);
}
BENCHMARK(stream)->Arg(0)->Arg(1)->Arg(4)->Arg(16)->ArgName("patterns");

void loops(benchmark::State& state) {
  tpx::loop_detector detector{{.max_period = static_cast<std::size_t>(state.range(0))}};
  tpx::token_id token = 0;
  for (auto _ : state) { benchmark::DoNotOptimize(detector.push(token++ % 1000)); }
}
BENCHMARK(loops)->Arg(16)->Arg(64)->Arg(256)->ArgName("max_period");

void compile(benchmark::State& state) {
  auto const all = patterns(static_cast<std::size_t>(state.range(0)), tpx::text_action::Stop);
  for (auto _ : state) { benchmark::DoNotOptimize(tpx::matcher{all}); }
}
BENCHMARK(compile)->Arg(1)->Arg(4)->Arg(16)->ArgName("patterns")->Unit(benchmark::kMicrosecond);

}  // namespace
