// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "fake_models.hpp"
#include "plain_pages.hpp"

#include <tpx/generator/generator.hpp>

#include <catch2/catch_test_macros.hpp>

namespace {

struct greedy {
  struct parameters {};
  struct state {};
  tpx::sampled sample(tpx::sample_request const& r, parameters const&, state&) {
    auto const& row = r.logits;
    return {.token = static_cast<tpx::token_id>(std::max_element(row.begin(), row.end()) - row.begin())};
  }
};

TEST_CASE("a counting model counts") {
  fake::counting_model<16> model{8, 100};
  fake::letters const vocab{100};
  greedy sampler;
  tpx::generator<fake::counting_model<16>, greedy, fake::letters, tpx::no_drafter,
                 fake::plain_pages<16>>
    gen{model, sampler, vocab};
  auto const j = gen.enqueue({.prompt = {1, 2, 3}, .max_new_tokens = 40});
  while (gen.step()) {}
  auto const r = j.wait(std::chrono::seconds{1});
  REQUIRE(r.size() == 1);
  REQUIRE(r[0].tokens.size() == 40);
  REQUIRE(r[0].tokens[0] == 4);
  REQUIRE(r[0].tokens[39] == 43);
}

}  // namespace
