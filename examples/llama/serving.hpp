// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "engine.hpp"
#include "leading_sampler.hpp"
#include "opened.hpp"

#include <tpx/generator/generator.hpp>
#include <tpx/generator/sampler.hpp>

#include <utility>

namespace llama {

/// What can be chosen for each job.
using chain = tpx::sampler<tpx::sample::TopK, tpx::sample::TopP, tpx::sample::MinP,
                           tpx::sample::Temperature, tpx::sample::Gumbel>;

using generator = tpx::generator<part_leader<engine>, leading_sampler<engine, chain>, vocabulary>;

/// Runs body(generator&) on rank 0 over the model of which every rank of `g` has a part, while the
/// others follow. Every rank samples from its part of the vocabulary. All ranks call it.
template <class F>
void serve(tpx::group& g, engine& own, vocabulary const& words,
           tpx::generator_options const& options, F&& body) {
  orders told{g};
  auto part = part_sampler<chain>(own);
  if (g.rank() != 0) { return follow_sampling(own, told, part); }
  part_leader<engine> model{g, own, told};
  leading_sampler sampler{own, part, told};
  generator serving{model, sampler, words, options};
  std::forward<F>(body)(serving);
}

}  // namespace llama

// Compiled once, in serving.cpp.
extern template class tpx::generator<llama::part_leader<llama::engine>,
                                     llama::leading_sampler<llama::engine, llama::chain>,
                                     llama::vocabulary>;
