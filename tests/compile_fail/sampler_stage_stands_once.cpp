// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: a stage stands once in a chain
#include <tpx/generator/sampler.hpp>

using twice = tpx::sampler<tpx::sample::MinP, tpx::sample::MinP, tpx::sample::Gumbel>;

void f(twice& sampler, std::span<float const> logits) {
  (void)sampler.sample({.logits = logits}, {});
}
