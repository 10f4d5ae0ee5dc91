// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/mask.hpp>

#include <cstddef>
#include <string>

namespace tpx::detail {

/// Makes run.mask what may come next: what the filter allows, less stop tokens before
/// min_new_tokens and what came to a banned string here. Returns false if nothing may follow a text
/// that is whole; throws invalid_argument if nothing may follow one that is not.
template <class Run>
[[nodiscard]] bool mask_next(Run& run, std::size_t vocab_size) {
  auto const& job = *run.options;
  bool const early = run.generated() < static_cast<std::size_t>(job.min_new_tokens);
  auto const forbidden = run.text.forbidden();
  bool const filtered = run.filter.has_value();
  if (!filtered && forbidden.empty() && (!early || job.stop_tokens.empty())) {
    run.mask.clear();
    return true;
  }
  run.mask.resize(mask_words(vocab_size));
  if (filtered) {
    run.filter.fill(run.mask);
  } else {
    mask_allow_all(run.mask, vocab_size);
  }
  if (early) {
    for (auto const token : job.stop_tokens) { mask_forbid(run.mask, token); }
  }
  for (auto const token : forbidden) { mask_forbid(run.mask, token); }
  if (!mask_empty(run.mask)) { return true; }
  expects(
    filtered && run.filter.finished(),
    [&] {
      return "after " + std::to_string(run.generated()) +
             " new tokens the job's filter, bans and min_new_tokens together allow none";
    },
    "does the filter fit the model's vocabulary and the stop tokens?");
  return false;
}

}  // namespace tpx::detail
