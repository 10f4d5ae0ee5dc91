// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/filter.hpp>
#include <tpx/generator/loop_detector.hpp>
#include <tpx/generator/metrics.hpp>
#include <tpx/generator/sample/request.hpp>
#include <tpx/generator/text_pattern.hpp>
#include <tpx/generator/token.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
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
  filter_finished,  ///< the filter allows nothing to follow
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

/// What a user asks for. `Sampling`: the sampler's parameters; what their spans show (biases,
/// breakers of Dry, ...) must outlive the job.
template <class Sampling>
struct job_options {
  std::vector<token_id> prompt = {};  // at least one token
  int max_new_tokens = 256;           // exactly so many, unless it ends sooner
  int min_new_tokens = 0;             // no stop token comes before
  Sampling sampling = {};             //
  std::uint64_t seed = 0;             // the same job with the same seed has the same tokens
  int priority = 0;                   // the largest goes first; within one, the first come
  int sequences = 1;                  // of one prompt, with the seeds seed, seed + 1, ...
  std::vector<token_id> negative_prompt = {};  // not empty: classifier-free guidance, with logits
  float guidance = 1.5f;                       // negative + guidance * (positive - negative)
  std::vector<token_id> stop_tokens = {};
  std::vector<std::string> stop_strings = {};
  std::vector<std::string> banned_strings = {};  // whatever their case; the text avoids them
  // More of both, in scopes of the text: a Stop or Ban pattern counts where its `scopes` say, an
  // Enter pattern and a scope token say where another scope begins. A text begins in scope 0, and
  // the strings above count in all. What the patterns show is read by enqueue alone.
  std::vector<text_pattern> text_patterns = {};
  std::vector<scope_token> scope_tokens = {};
  any_filter filter = {};    // what the text may be, which begins where the prompt ends
  bool heal_tokens = false;  // the prompt's last token may become a longer one that begins so
  std::optional<loop_options> stop_on_loop = {};
  int max_draft = 0;         // tokens guessed ahead, at most
  int max_rq_tokens = 512;   // new tokens for which pages are claimed at a time
  bool logprobs = false;     // fill in generated::scores
  int top_logprobs = 0;      // and generated::top, with so many a token
  int raw_top_logprobs = 0;  // and generated::raw_top
  std::uint64_t salt = 0;    // pages are shared among jobs of one salt alone
};

/// How likely a token was.
struct token_score {
  float logprob;      // in the distribution that it was drawn from
  float raw_logprob;  // in the model's own
  std::size_t rank;   // 1: the likeliest
};

/// What came out of one sequence of a job: all of it, or what is new.
struct generated {
  std::size_t sequence = 0;  // which, from 0
  std::string text;          // without what a stop string cuts off; UTF-8 if the tokens are
  std::vector<token_id> tokens;
  std::vector<token_score> scores;  // a token each, if asked for
  std::vector<token_logprob> top;   // (tokens, top_logprobs), likeliest first, where each was drawn
  std::vector<token_logprob>
    raw_top;  // (tokens, raw_top_logprobs), in the model's own distribution
  finish_reason reason = finish_reason::none;
  std::string error;    // what went wrong, if the reason is failed
  job_metrics metrics;  // when it has ended
};

/// The mean of the tokens' log-probabilities, in the model's own distribution: by what the best of
/// several sequences is told. Needs job_options::logprobs; -infinity without tokens.
[[nodiscard]] inline double mean_logprob(generated const& g) {
  double sum = 0;
  for (auto const& s : g.scores) { sum += static_cast<double>(s.raw_logprob); }
  return g.scores.empty() ? -std::numeric_limits<double>::infinity()
                          : sum / static_cast<double>(g.scores.size());
}

/// What is new of a sequence, as a callback gets it; valid during the call.
struct fresh_output {
  job_id job;
  std::size_t sequence;
  std::string_view text;
  std::span<token_id const> tokens;
  std::span<token_score const> scores;
  std::span<token_logprob const> top;
  std::span<token_logprob const> raw_top;
  finish_reason reason;  // not none: this is the sequence's last call
  std::string_view error;
  job_metrics const& metrics;
};

}  // namespace tpx
