// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "serving.hpp"

template class tpx::generator<llama::leader<llama::engine>, llama::chain, llama::vocabulary>;
