// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "../world.hpp"
#include "sampler_oracle.hpp"

#include <tpx/allreduce.hpp>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace oracle;
using comm_t = communicator<HostPinned, AllPairs, Cpu>;

struct over_ranks {
  comm_t& comm;
  void max(std::span<std::uint64_t> x) const { allreduce(comm, x, Max{}); }
  void sum(std::span<std::uint64_t> x) const { allreduce(comm, x, Sum{}); }
};
static_assert(vocabulary_reduction<over_ranks>);

/// Where rank r of n begins: about even, or as uneven as can be with an empty shard in the middle.
std::size_t begin(std::size_t columns, int r, int n, bool even) {
  auto const rank = static_cast<std::size_t>(r);
  auto const ranks = static_cast<std::size_t>(n);
  if (r == n) { return columns; }
  if (even) { return columns * rank / ranks; }
  return rank <= 1 ? 5 * rank : std::min(columns, 5 + 301 * (rank - 2) / 2 * 2);
}

struct outcome {
  token_id token;
  float logprob;
  float raw_logprob;
  std::size_t rank;
  std::vector<token_logprob> top;
  std::vector<token_logprob> raw_top;
  friend bool operator==(outcome const&, outcome const&) = default;
};

/// What a sampler of columns [first, last) makes of all rows, in order.
template <class Chain, class R>
std::vector<outcome> outcomes(typename Chain::parameters const& chosen, std::size_t vocab,
                              std::size_t first, std::size_t last, R const& reduction) {
  Chain chain{{.columns = last - first, .first = first}};
  typename Chain::state memory{};
  std::vector<token_id> history;
  std::vector<outcome> all;
  std::vector<token_logprob> top(8);
  std::vector<token_logprob> raw(5);
  std::vector<std::uint32_t> const mask(vocab / 32, 0xdfffffffu);
  auto kinds = rows(vocab, 12);
  if (world::sanitized) { kinds.resize(4); }
  for (std::uint64_t step = 0; step < 2; ++step) {
    for (auto const& [name, values] : kinds) {
      bool const masked = step % 2 == 1 && name != "one";
      auto const drawn =
        chain.sample({.logits = std::span{values}.subspan(first, last - first),
                      .history = history,
                      .mask = masked ? std::span{mask} : std::span<std::uint32_t const>{},
                      .step = step,
                      .logprobs = true,
                      .top = top,
                      .raw_top = raw},
                     chosen, memory, reduction);
      all.push_back({drawn.token,
                     drawn.logprob,
                     drawn.raw_logprob,
                     drawn.rank,
                     {drawn.top.begin(), drawn.top.end()},
                     {drawn.raw_top.begin(), drawn.raw_top.end()}});
      history.push_back(drawn.token);
    }
  }
  return all;
}

template <class Chain>
void expect_same_however_cut(typename Chain::parameters const& chosen,
                             std::vector<int> const& ranks = {1, 2, 4, 8},
                             std::size_t vocab = 1500) {
  auto const expected = outcomes<Chain>(chosen, vocab, 0, vocab, whole_vocabulary{});
  for (int const n : ranks) {
    if (world::sanitized && n == 4) { continue; }
    for (bool const even : {true, false}) {
      world::notes found;
      world::on_ranks(n, [&](group& g) {
        comm_t comm{g};
        auto const mine = outcomes<Chain>(chosen, vocab, begin(vocab, g.rank(), n, even),
                                          begin(vocab, g.rank() + 1, n, even), over_ranks{comm});
        for (std::size_t i = 0; i < expected.size(); ++i) {
          if (mine[i] != expected[i]) {
            found.add("rank " + std::to_string(g.rank()) + " of " + std::to_string(n) + ", row " +
                      std::to_string(i) + ": token " + std::to_string(mine[i].token) + ", not " +
                      std::to_string(expected[i].token));
          }
        }
      });
      REQUIRE(found.all() == "");
    }
  }
}

}  // namespace

TEST_CASE("a vocabulary cut over ranks gives the same token, to the bit, for any cut") {
  expect_same_however_cut<sampler<Argmax>>({});
  expect_same_however_cut<sampler<Gumbel>>({});
  expect_same_however_cut<sampler<MinP, Temperature, Gumbel>>({MinP{0.05f}, Temperature{0.7f}});
  expect_same_however_cut<sampler<Penalties, TopK, TopP, MinP, Temperature, Gumbel>>(
    {Penalties{.repetition = 1.2f}, TopK{40}, TopP{0.95f}, MinP{0.05f}, Temperature{0.8f}});
  expect_same_however_cut<sampler<Temperature, TopP, Typical, Gumbel>>(
    {Temperature{1.3f}, TopP{0.9f}, Typical{0.95f}});
}

TEST_CASE("a vocabulary cut over ranks goes through every stage alike") {
  static std::vector<token_bias> const biases{{5, 1.0f}, {1400, 2.0f}, {700, -1e9f}};
  static std::vector<token_id> const keep{3, 750};
  expect_same_however_cut<
    sampler<LogitBias, Penalties, Dry, TopNSigma, TopK, Typical, TopP, MinP, TopA, Xtc,
            DynamicTemperature, Temperature, Mirostat2, AdaptiveP, Gumbel>>(
    {LogitBias{biases}, Penalties{.presence = 0.4f}, Dry{.multiplier = 0.5f}, TopNSigma{4},
     TopK{400}, Typical{0.99f}, TopP{0.98f}, MinP{0.001f}, TopA{0.001f}, Xtc{0.3f, 0.02f, keep},
     DynamicTemperature{0.7f, 1.2f}, Temperature{0.9f}, Mirostat2{.tau = 6}, AdaptiveP{0.3f}});
}

TEST_CASE("a limit is the same however a long row is cut") {
  expect_same_however_cut<sampler<Typical, TopP, TopK, Gumbel>>(
    {Typical{0.95f}, TopP{0.9f}, TopK{9000}}, {2}, 40000);
}

TEST_CASE("an error of a row is one of all ranks") {
  constexpr std::size_t vocab = 1500;
  world::notes found;
  world::on_ranks(4, [&](group& g) {
    comm_t comm{g};
    std::size_t const first = begin(vocab, g.rank(), 4, true);
    std::size_t const n = begin(vocab, g.rank() + 1, 4, true) - first;
    sampler<TopK, Gumbel> chain{{.columns = n, .first = first}};
    auto const expect_error = [&](std::vector<float> const& values, std::string const& what) {
      try {
        (void)chain.sample({.logits = values, .id = 3}, {TopK{5}}, over_ranks{comm});
        found.add("no error");
      } catch (error const& e) {
        if (std::string{e.what()}.find(what) == std::string::npos) { found.add(e.what()); }
      }
    };
    std::vector<float> values(n, 1.0f);
    if (g.rank() == 2) { values[7] = NAN; }
    expect_error(values, "request 3 has a logit that is not a number");
    expect_error(std::vector<float>(n, -std::numeric_limits<float>::infinity()),
                 "request 3 allows no token");
    // And the ranks are still in step.
    auto const drawn = chain.sample({.logits = std::vector<float>(n, 1.0f)}, {}, over_ranks{comm});
    if (drawn.token < 0) { found.add("no token"); }
  });
  REQUIRE(found.all() == "");
}
