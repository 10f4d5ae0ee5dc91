// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One rank says what is to be sampled, and all do.
#include "../world.hpp"
#include "sampler_oracle.hpp"

#include <tpx/allreduce.hpp>
#include <tpx/generator/any_sampler.hpp>
#include <tpx/generator/sample_order.hpp>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace oracle;
using comm_t = communicator<HostPinned, AllPairs, Cpu>;

struct over_ranks {
  comm_t& comm;
  void max(std::span<std::uint64_t> x) const { allreduce(comm, x, Max{}); }
  void sum(std::span<std::uint64_t> x) const { allreduce(comm, x, Sum{}); }
};

constexpr std::size_t vocab = 700;

/// What rank 0 is asked for one token.
template <class Chain>
struct asked {
  typename Chain::parameters chosen;
  std::vector<token_id> history;
  std::vector<std::uint32_t> mask;
  bool guided;
};

template <class Chain>
std::vector<asked<Chain>> questions() {
  static std::vector<token_bias> const biases{{5, 4.0f}, {600, 3.0f}, {333, -1e9f}};
  static std::vector<token_id> const keep{3, 350, 699};
  typename Chain::parameters all;
  all.set(LogitBias{biases});
  all.set(Penalties{.repetition = 1.5f, .presence = 0.5f});
  all.set(Dry{.multiplier = 0.5f, .breakers = keep});
  all.set(TopK{100});
  all.set(Xtc{0.4f, 0.02f, keep});
  all.set(Temperature{0.8f});
  all.set(Mirostat2{.tau = 4});
  std::vector<asked<Chain>> list;
  for (std::size_t i = 0; i < 24; ++i) {
    asked<Chain> q{all, {}, {}, i % 3 == 1};
    if (i % 4 == 0) { q.chosen = {}; }
    for (std::size_t h = 0; h < 10 * i; ++h) {
      q.history.push_back(static_cast<token_id>((h * h + i) % vocab % 90));
    }
    if (i % 5 == 2) { q.mask.assign((vocab + 31) / 32, 0xf0f0f0f0u >> (i % 3)); }
    list.push_back(q);
  }
  return list;
}

std::vector<float> row(std::uint64_t seed) {
  std::vector<float> values(vocab);
  for (std::size_t t = 0; t < vocab; ++t) {
    auto const x = (seed * 1009 + t) * 0x9e3779b97f4a7c15u;
    values[t] = static_cast<float>((x ^ x >> 29) % 10007) / 900;
  }
  return values;
}

/// What a rank draws from columns [first, first + columns): the two rows of each question's step.
template <class Chain, class R, class Each>
void draw(Chain& chain, std::size_t first, std::size_t columns, R const& reduction, Each each) {
  typename Chain::state memory{};
  std::uint64_t step = 0;
  std::vector<token_logprob> top(3);
  for (auto const& q : questions<Chain>()) {
    std::vector<float> logits;
    for (std::uint64_t const r : {step, step + 1000}) {
      auto const all = row(r);
      logits.insert(logits.end(), all.begin() + static_cast<std::ptrdiff_t>(first),
                    all.begin() + static_cast<std::ptrdiff_t>(first + columns));
    }
    auto const mine = std::span{logits}.first(columns);
    guided_row from{.row = 0};
    if (q.guided) {
      from.negative = 1;
      from.strength = 1.7f;
    }
    std::vector<candidate> const draft{{static_cast<token_id>(step), 1}, {350, 2}, {699, 1}};
    sample_request const request{.logits = mine,
                                 .history = q.history,
                                 .mask = q.mask,
                                 .seed = 9,
                                 .step = step,
                                 .id = 4,
                                 .logprobs = step % 2 == 0,
                                 .top = std::span{top}.first(step % 4),
                                 .raw_top = std::span{top}.first(step % 3),
                                 .drafted = 350,
                                 .drawn_from = std::span{draft}.first(step % 2 == 0 ? 3 : 0)};
    each(from, request, q.chosen, memory, logits, [&] {
      if (q.guided) { guide(mine, std::span{logits}.last(columns), 1.7f); }
      return chain.sample(request, q.chosen, memory, reduction).token;
    });
    ++step;
  }
}

template <class Chain, class Make>
void expect_same_tokens(Make make) {
  std::vector<token_id> expected;
  Chain whole = make(sampler_options{.columns = vocab});
  draw(whole, 0, vocab, whole_vocabulary{},
       [&](auto&, auto&, auto&, auto&, auto&, auto sample) { expected.push_back(sample()); });
  for (int const n : {2, 4}) {
    std::vector<std::uint32_t> words;
    std::vector<token_id> drawn;
    ::world::on_ranks(n, [&](group& g) {
      comm_t comm{g};
      over_ranks const reduction{comm};
      auto const begin = [&](int r) {
        return vocab * static_cast<std::size_t>(r) / static_cast<std::size_t>(n);
      };
      auto const first = begin(g.rank());
      auto const columns = begin(g.rank() + 1) - first;
      Chain chain = make(sampler_options{.columns = columns, .first = first});
      sample_order<Chain> order;
      std::uint64_t turn = 0;
      auto const meet = [&] { reduction.max({&turn, 1}); };
      draw(chain, first, columns, reduction,
           [&](auto& from, auto& request, auto& chosen, auto& memory, auto& logits, auto sample) {
             if (g.rank() == 0) {
               auto const told = order.write(from, request, chosen, memory);
               words.assign(told.begin(), told.end());
               meet();
               drawn.push_back(sample());
             } else {  // knows its logits, and else what it is told
               meet();
               auto const told = words;
               order.carry_out(told, chain, logits, columns, reduction);
             }
             meet();
           });
    });
    REQUIRE(drawn == expected);
  }
}

}  // namespace

TEST_CASE("ranks that are told what one is asked draw the same token") {
  using chain = sampler<LogitBias, Penalties, Dry, TopK, Xtc, Temperature, Mirostat2, Gumbel>;
  expect_same_tokens<chain>([](sampler_options const& o) { return chain{o}; });
}

TEST_CASE("ranks that are told do so with a chain chosen at run time") {
  using any =
    any_sampler<sampler<Temperature, Gumbel>,
                sampler<LogitBias, Penalties, Dry, TopK, Xtc, Temperature, Mirostat2, Gumbel>>;
  expect_same_tokens<any>([](sampler_options const& o) {
    return any{
      {"LogitBias", "Penalties", "Dry", "TopK", "Xtc", "Temperature", "Mirostat2", "Gumbel"}, o};
  });
}

TEST_CASE("a row without a token to draw is the writer's error alone") {
  using chain = sampler<TopK, Gumbel>;
  chain part{{.columns = 4}};
  sample_order<chain> order;
  chain::state memory{};
  std::vector<float> impossible(4, -std::numeric_limits<float>::infinity());
  auto const told = order.write({}, {.logits = impossible}, {}, memory);
  std::vector<std::uint32_t> const words{told.begin(), told.end()};
  REQUIRE_NOTHROW(order.carry_out(words, part, impossible, 4, whole_vocabulary{}));
}
