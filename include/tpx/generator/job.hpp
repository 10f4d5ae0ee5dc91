// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tpx {

/// Names a job of a generator; from 1 on, never used again.
using job_id = std::uint64_t;

/// Why a sequence ended.
enum class finish_reason : std::uint8_t {
  none,             ///< it has not
  stop_token,       ///< a stop token was chosen; it is the last of the result's tokens
  stop_string,      ///< the text ends where the stop string began
  max_new_tokens,   ///< as many as were asked for
  filter_finished,  ///< the filter's language has no longer text
  loop,             ///< it repeats itself
  cancelled,        ///< by the user, or the generator went away
  failed,           ///< the result's error says why
};

[[nodiscard]] constexpr std::string_view name(finish_reason reason) noexcept {
  constexpr std::string_view names[]{"none",           "stop_token",      "stop_string",
                                     "max_new_tokens", "filter_finished", "loop",
                                     "cancelled",      "failed"};
  return names[static_cast<std::size_t>(reason)];
}

/// What a user asks for. Sampling holds what the sampler takes (temperature, top-p, ...).
template <class Sampling, class Filter>
struct job_options {
  std::vector<token_id> prompt = {};  // at least one token
  int max_new_tokens = 256;      // exactly so many, unless it ends sooner
  int min_new_tokens = 0;        // no stop token and no end of the filter before
  Sampling sampling = {};
  std::uint64_t seed = 0;                 // same job, same seed: same tokens
  int priority = 0;                       // the largest goes first; the first come within one
  int sequences = 1;                      // of one prompt, with seeds seed, seed + 1, ...
  std::vector<token_id> negative_prompt = {};  // with it, classifier-free guidance of this strength:
  float guidance = 1.5f;                  // logits = negative + guidance * (positive - negative)
  int max_rq_tokens = 512;                // pages are claimed for so many new tokens at a time
  int max_draft = 0;                      // tokens guessed ahead of a step, at most
  std::uint64_t salt = 0;                 // pages are shared among jobs of one salt alone
  std::vector<token_id> stop_tokens = {};
  std::vector<std::string> stop_strings = {};
  std::vector<std::string> banned_strings = {};  // never in the text: it goes back and chooses otherwise
  bool heal_tokens = false;  // the prompt's last token may become a longer one of the same start
  bool stop_on_loop = false;
  int top_logprobs = 0;  // of the likeliest tokens at every position
  Filter filter = {};
};

/// What came out of one sequence of a job: all of it, or what is new.
struct generated {
  std::size_t sequence = 0;  // which, from 0
  std::string text;          // whole UTF-8 characters, no part of a stop string
  std::vector<token_id> tokens;
  std::vector<float> logprobs;  // of each token, in the distribution that it was drawn from
  finish_reason reason = finish_reason::none;
  std::string error;  // what went wrong if the reason is failed
};

}  // namespace tpx
