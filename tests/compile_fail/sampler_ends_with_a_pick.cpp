// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: a chain ends with a stage that picks
#include <tpx/generator/sampler.hpp>

template class tpx::sampler<tpx::sample::TopK, tpx::sample::MinP>;
