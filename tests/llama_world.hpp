// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "llama/leading_sampler.hpp"
#include "llama/model.hpp"
#include "world.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

/// What tests of the llama example's model share.
namespace world {

using comm_t = communicator<PeerDirect, AllPairs, Cpu>;
using ids = std::vector<token_id>;

inline std::string const bible = TPX_TEST_EXAMPLES "/llama/model";
inline std::string const qwen2 = TPX_TEST_EXAMPLES "/llama/testdata/qwen2-tiny";

/// What PyTorch makes of a model.
inline nlohmann::json golden(std::string const& folder) {
  return nlohmann::json::parse(std::ifstream{folder + "/golden.json"});
}

inline split_plan plan_of(llama::checkpoint const& files, int n) {
  return split_plan::even(llama::shape_of(files.config), n, llama::plan_options(512));
}

/// Runs f(leader) on rank 0 of n; the others follow. What ranks throw comes out, in the end.
template <class Model, class F>
void on_leader(llama::checkpoint const& files, int n, llama::model_options const& options, F f,
               std::chrono::milliseconds deadline = std::chrono::seconds{60}) {
  auto const plan = plan_of(files, n);
  on_ranks(
    n,
    [&](group& g) {
      comm_t comm{g};
      Model own{comm, files, plan, options};
      llama::orders orders{g};
      if (g.rank() != 0) { return llama::follow(own, orders); }
      llama::leader<Model> leader{g, own, orders};
      f(leader);
    },
    deadline);
}

/// The same, and every rank samples from its part of the vocabulary: f(part_leader, sampler).
template <class Model, class Chain, class F>
void on_part_leader(llama::checkpoint const& files, int n, llama::model_options const& options,
                    F f) {
  auto const plan = plan_of(files, n);
  on_ranks(
    n,
    [&](group& g) {
      comm_t comm{g};
      Model own{comm, files, plan, options};
      llama::orders orders{g};
      auto chain = llama::part_sampler<Chain>(own);
      if (g.rank() != 0) { return llama::follow_sampling(own, orders, chain); }
      llama::part_leader<Model> leader{g, own, orders};
      llama::leading_sampler sampler{own, chain, orders};
      f(leader, sampler);
    },
    std::chrono::seconds{60});
}

}  // namespace world
