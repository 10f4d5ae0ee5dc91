// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/checkpoint.hpp>

#include <cstddef>
#include <string>

namespace tpx {

/// How recurrent states are kept; nothing to a model without.
struct checkpoint_options {
  checkpoint_rule rule = {};
  std::size_t bytes = std::size_t{1} << 30;  // of host memory
};

struct generator_options {
  std::size_t max_batch = 256;      // sequences that are running at a time; a guided one is two
  std::size_t token_budget = 2048;  // tokens of a step: prompts, decodes and drafts together
  std::size_t defragment = 0;       // pages that may be moved together in a step
  std::size_t prefetch = 8;         // and to and from the host for jobs that wait
  checkpoint_options checkpoints = {};
};

namespace detail {

inline generator_options const& checked(generator_options const& how, std::size_t vocabulary,
                                        std::size_t vocab_size) {
  expects(vocabulary == vocab_size, [&] {
    return "a vocabulary of " + std::to_string(vocabulary) + " tokens for a model of " +
           std::to_string(vocab_size);
  });
  expects(
    how.max_batch >= 1 && how.token_budget > how.max_batch,
    [&] {
      return "max_batch is " + std::to_string(how.max_batch) + " and token_budget " +
             std::to_string(how.token_budget);
    },
    "have a batch of at least 1, and a budget above it, or prompts wait for ever");
  return how;
}

}  // namespace detail

}  // namespace tpx
