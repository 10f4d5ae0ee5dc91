// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "sampler_oracle.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>

namespace {

using namespace oracle;

std::vector<token_id> const history{7, 3, 7, 600, 3, 7, 3};

/// Four stages in an order that is chosen at run time, as one stage.
template <class... Stages>
struct Ordered {
  static constexpr std::string_view name = "Ordered";
  static constexpr bool looks_back = (requires { Stages::looks_back; } || ...);
  std::array<std::size_t, sizeof...(Stages)> order{};
  std::tuple<Stages...> stages{};

  [[nodiscard]] bool neutral() const { return false; }
  void validate() const {}
  template <class C>
  void apply(C& c) const {
    each([&]<class S>(S const& stage) {
      if constexpr (stateful_stage<S>) {
        typename S::state fresh{};
        stage.apply(c, fresh);
      } else {
        stage.apply(c);
      }
    });
  }
  void each(auto f) const {
    for (std::size_t const wanted : order) {
      std::size_t i = 0;
      std::apply([&](auto const&... stage) { ((i++ == wanted ? f(stage) : void()), ...); }, stages);
    }
  }
};

/// The logits that a chain leaves.
template <class... Stages>
row left_by(std::vector<float> const& values, Stages const&... stages) {
  sampler<Stages..., Look> chain{{.columns = values.size()}};
  row left(values.size(), none);
  typename decltype(chain)::state memory{};
  (void)chain.sample({.logits = values, .history = history}, {stages..., Look{&left}}, memory);
  return left;
}

/// Of these stages in all orders, on n logits; on every kind of row or on the first few.
template <class... Stages>
void expect_one_by_one(std::size_t n, std::size_t kinds, Stages const&... stages) {
  Ordered<Stages...> chain{{}, {stages...}};
  std::iota(chain.order.begin(), chain.order.end(), std::size_t{0});
  auto all = rows(n, 1);
  all.resize(std::min(kinds, all.size()));
  for (auto const& [name, values] : all) {
    REQUIRE(left_by(values, stages...) == left_by(values, chain));
    do {
      INFO(name << ' ' << chain.order[0] << chain.order[1] << chain.order[2] << chain.order[3]);
      std::vector<float> expected = values;
      chain.each([&](auto const& stage) {
        row const left = left_by(expected, stage);
        std::transform(left.begin(), left.end(), expected.begin(),
                       [](double x) { return static_cast<float>(x); });
      });
      REQUIRE(left_by(values, chain) == of(expected));
    } while (std::next_permutation(chain.order.begin(), chain.order.end()));
  }
}

}  // namespace

TEST_CASE("stages that cut off are in any order what they are one by one") {
  expect_one_by_one(700, 9, TopK{60}, TopP{0.8f}, MinP{0.02f}, Typical{0.9f});
  expect_one_by_one(700, 9, TopNSigma{3}, TopA{0.01f}, Mirostat2{.tau = 5}, TopP{0.9f});
  expect_one_by_one(20000, 2, TopK{9000}, TopP{0.8f}, TopNSigma{2}, Typical{0.9f});
}

TEST_CASE("stages that look at the history are in any order what they are one by one") {
  static std::vector<token_bias> const biases{{5, 1.0f}, {600, 2.0f}, {3, -1e9f}};
  expect_one_by_one(700, 9, LogitBias{biases}, Penalties{.repetition = 1.2f, .presence = 0.4f},
                    Dry{.multiplier = 0.5f}, TopK{100});
}

TEST_CASE("stages that scale and move logits are in any order what they are one by one") {
  static std::vector<token_id> const keep{3, 650};
  expect_one_by_one(700, 9, Temperature{0.7f}, Xtc{0.3f, 0.02f, keep}, MinP{0.01f}, TopP{0.95f});
  expect_one_by_one(700, 9, DynamicTemperature{0.7f, 1.4f}, AdaptiveP{0.3f}, TopK{50},
                    Penalties{.frequency = 0.3f});
}
