// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/text_pattern.hpp>
#include <tpx/generator/token.hpp>
#include <tpx/generator/utf8.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace tpx::detail {

/// What bounds the jobs of a generator.
struct job_limits {
  std::size_t vocab_size;
  std::size_t pages;
  std::size_t page_size;
  std::size_t max_batch;
  std::size_t max_tokens;  // of one sequence, as the model says
  bool drafts;             // there is a drafter
};

inline void check_tokens(std::span<token_id const> tokens, std::size_t vocab_size,
                         char const* what) {
  auto const wrong = std::find_if(tokens.begin(), tokens.end(), [&](token_id t) {
    return t < 0 || static_cast<std::size_t>(t) >= vocab_size;
  });
  expects(
    wrong == tokens.end(),
    [&] {
      return std::string{what} + "[" + std::to_string(wrong - tokens.begin()) + "] is " +
             std::to_string(*wrong) + ", but the model has the tokens 0 to " +
             std::to_string(vocab_size - 1);
    },
    "was it encoded by another model's tokenizer?");
}

inline void check_count(char const* what, int value, int least,
                        std::size_t most = std::numeric_limits<int>::max()) {
  expects(value >= least && static_cast<std::size_t>(std::max(value, 0)) <= most, [&] {
    return std::string{what} + " is " + std::to_string(value) + ", not " + std::to_string(least) +
           " to " + std::to_string(most);
  });
}

/// Stop strings are patterns 0, 1, ...; banned strings follow, then what the job has in scopes.
template <class Options>
[[nodiscard]] std::vector<text_pattern> patterns_of(Options const& job) {
  std::vector<text_pattern> patterns;
  for (std::string const& s : job.stop_strings) { patterns.push_back({.text = s}); }
  for (std::string const& s : job.banned_strings) {
    patterns.push_back({.text = s, .action = text_action::Ban, .ignore_case = true});
  }
  patterns.insert(patterns.end(), job.text_patterns.begin(), job.text_patterns.end());
  return patterns;
}

/// Throws invalid_argument for a job that could never run, or that asks for nonsense.
template <class Options>
void check_job(Options const& job, job_limits const& limits) {
  expects(!job.prompt.empty(), "the prompt is empty", "begin it with the model's first token");
  check_tokens(job.prompt, limits.vocab_size, "prompt");
  check_tokens(job.negative_prompt, limits.vocab_size, "negative_prompt");
  check_tokens(job.stop_tokens, limits.vocab_size, "stop_tokens");
  check_count("max_new_tokens", job.max_new_tokens, 1);
  check_count("min_new_tokens", job.min_new_tokens, 0);
  check_count("max_rq_tokens", job.max_rq_tokens, 1);
  check_count("max_draft", job.max_draft, 0, 1024);
  check_count("sequences", job.sequences, 1, 1024);
  auto const most_tops = std::min<std::size_t>(limits.vocab_size, 1024);
  check_count("top_logprobs", job.top_logprobs, 0, most_tops);
  check_count("raw_top_logprobs", job.raw_top_logprobs, 0, most_tops);
  expects(job.max_draft == 0 || limits.drafts, "max_draft, but the generator has no drafter",
          "give it one, as an ngram_drafter");
  expects(job.min_new_tokens <= job.max_new_tokens, [&] {
    return "min_new_tokens is " + std::to_string(job.min_new_tokens) + " and max_new_tokens " +
           std::to_string(job.max_new_tokens);
  });
  std::vector<token_id> scope_tokens;
  for (auto const& t : job.scope_tokens) { scope_tokens.push_back(t.token); }
  check_tokens(scope_tokens, limits.vocab_size, "scope_tokens");
  for (auto const& pattern : patterns_of(job)) {
    std::string valid;
    append_valid_utf8(valid, pattern.text);
    expects(!pattern.text.empty() && valid == pattern.text,
            "a stop string or banned string is empty, or not UTF-8: \"" + valid + '"');
  }
  expects(std::isfinite(job.guidance),
          [&] { return "guidance is " + std::to_string(job.guidance); });

  // The last token is chosen, but not put into the cache.
  auto const pages = [&](std::size_t prompt) {
    auto const tokens = prompt + static_cast<std::size_t>(job.max_new_tokens) - 1;
    expects(
      tokens <= limits.max_tokens,
      [&] {
        return std::to_string(prompt) + " tokens of prompt and max_new_tokens of " +
               std::to_string(job.max_new_tokens) + " are more than the model's " +
               std::to_string(limits.max_tokens);
      },
      "shorten the prompt or lower max_new_tokens");
    return prompt == 0 ? 0 : (tokens + limits.page_size - 1) / limits.page_size;
  };
  auto const needed = pages(job.prompt.size()) + pages(job.negative_prompt.size());
  expects(
    needed <= limits.pages,
    [&] {
      return std::to_string(job.prompt.size() + job.negative_prompt.size()) +
             " tokens of prompt and max_new_tokens of " + std::to_string(job.max_new_tokens) +
             " need " + std::to_string(needed) + " pages of " + std::to_string(limits.page_size) +
             " positions, and the cache has " + std::to_string(limits.pages);
    },
    "shorten the prompt, lower max_new_tokens, or give the model more pages");
  expects(job.negative_prompt.empty() || limits.max_batch >= 2,
          "a guided job runs two contexts, and max_batch is 1");
}

}  // namespace tpx::detail
