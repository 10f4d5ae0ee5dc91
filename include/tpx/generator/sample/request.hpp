// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>
#include <tpx/generator/token_distribution.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tpx {

/// A token and the logarithm of its probability.
struct token_logprob {
  token_id token;
  float logprob;

  friend bool operator==(token_logprob const&, token_logprob const&) = default;
};

/// One row of logits of which a token is wanted, and what goes with it.
///
/// Shapes  logits: (columns), the sampler's; mask: bit t % 32 of word t / 32 is set where token t
/// is
///         allowed (the layout of xgrammar and llguidance), and tokens beyond it are forbidden; an
///         empty mask allows all. Both stay unchanged.
struct sample_request {
  std::span<float const> logits;
  std::span<token_id const> history = {};  // oldest first; penalties and DRY look at it
  std::span<std::uint32_t const> mask = {};
  std::uint64_t seed = 0;
  std::uint64_t step = 0;             // another one gives other noise: position, or tokens so far
  std::uint64_t id = 0;               // names the request in errors
  bool logprobs = false;              // fill in `logprob`, `raw_logprob` and `rank`
  std::span<token_logprob> top = {};  // room for the likeliest tokens after all stages, and
  std::span<token_logprob> raw_top = {};  // for those before the first one
  // A guess at the token that was drawn from `drawn_from` by random numbers of its own. It is
  // picked as often as can be without a change to the distribution of what is picked
  // (rejection.hpp). Only where the chain ends with Gumbel; empty: no guess.
  token_id drafted = 0;
  token_distribution drawn_from = {};
  std::uint32_t slot = 0;  // the sequence's as long as it runs, under max_batch; another may follow
};

/// A token that was picked. What was not asked for is 0 or empty; the lists lie in the request's
/// room, likeliest first.
struct sampled {
  token_id token = 0;
  float logprob = 0;      // after all stages: of what was drawn from
  float raw_logprob = 0;  // the model's own, before mask and stages
  std::size_t rank = 0;   // 1: no token has a larger logit
  std::span<token_logprob const> top = {};
  std::span<token_logprob const> raw_top = {};
};

}  // namespace tpx
