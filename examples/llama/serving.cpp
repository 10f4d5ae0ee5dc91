// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "serving.hpp"

template class tpx::generator<llama::part_leader<llama::engine>,
                              llama::leading_sampler<llama::engine, llama::chain>,
                              llama::vocabulary>;
