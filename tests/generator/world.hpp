// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "fake_models.hpp"

#include <tpx/generator/generator.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

/// What tests of the generator share: a sampler written another way than the library's, and what a
/// job should give, computed without a cache, a batch or a queue.
namespace fake {

using tpx::finish_reason;
using tpx::generated;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

inline constexpr std::chrono::milliseconds no_time{0};

/// The largest of logits + heat * noise(seed, step, token); counts its calls in its state.
struct noisy {
  struct parameters {
    float heat = 0;
  };
  struct state {
    std::uint64_t calls = 0;
  };
  static float noise(std::uint64_t seed, std::uint64_t step, std::size_t token) {
    return static_cast<float>(mix(seed * 31 + step * 1000003 + token) >> 40) * 0x1p-24f;
  }
  tpx::sampled sample(tpx::sample_request const& r, parameters const& p, state& s) {
    ++s.calls;
    tpx::sampled best;
    float most = -1e30f;
    for (std::size_t t = 0; t < r.logits.size(); ++t) {
      tpx::expects(r.logits[t] == r.logits[t], "a logit is NaN");
      float const value = r.logits[t] + p.heat * noise(r.seed, r.step, t);
      bool const allowed = r.mask.empty() || (r.mask[t / 32] >> (t % 32) & 1) != 0;
      if (allowed && value > most) {
        most = value;
        best.token = static_cast<token_id>(t);
        best.logprob = r.logits[t];
        best.raw_logprob = static_cast<float>(s.calls);
      }
    }
    best.rank = 1;
    return best;
  }
};

template <class Model, class Drafter = tpx::no_drafter>
using generator = tpx::generator<Model, noisy, letters, Drafter>;
using options = tpx::job_options<noisy::parameters>;

/// What `job` should give as its `sequence`-th sequence, on a hash model of `vocab` tokens.
inline std::vector<token_id> expected(options const& job, std::size_t vocab,
                                      std::size_t sequence = 0) {
  std::vector<token_id> all = job.prompt;
  std::vector<token_id> negative = job.negative_prompt;
  std::vector<float> row(vocab);
  std::vector<float> other(vocab);
  for (int n = 0; n < job.max_new_tokens; ++n) {
    write_logits(row, hash_of(all));
    if (!job.negative_prompt.empty()) {
      write_logits(other, hash_of(negative));
      for (std::size_t t = 0; t < vocab; ++t) {
        row[t] = other[t] + job.guidance * (row[t] - other[t]);
      }
    }
    std::size_t best = 0;
    auto const value = [&](std::size_t t) {
      return row[t] + job.sampling.heat *
                        noisy::noise(job.seed + sequence, static_cast<std::uint64_t>(n), t);
    };
    for (std::size_t t = 1; t < vocab; ++t) {
      if (value(t) > value(best)) { best = t; }
    }
    all.push_back(static_cast<token_id>(best));
    negative.push_back(static_cast<token_id>(best));
  }
  return {all.begin() + static_cast<std::ptrdiff_t>(job.prompt.size()), all.end()};
}

/// `n` tokens that depend on `seed`.
inline std::vector<token_id> some_tokens(std::size_t n, std::size_t vocab, std::uint64_t seed) {
  std::vector<token_id> tokens(n);
  for (std::size_t i = 0; i < n; ++i) {
    tokens[i] = static_cast<token_id>(mix(seed * 7919 + i) % vocab);
  }
  return tokens;
}

/// Jobs of different prompts, lengths, seeds and heats.
inline std::vector<options> some_jobs(std::size_t n, std::size_t vocab, std::size_t longest) {
  std::vector<options> jobs(n);
  for (std::size_t i = 0; i < n; ++i) {
    jobs[i].prompt = some_tokens(1 + mix(i) % longest, vocab, i);
    jobs[i].max_new_tokens = 1 + static_cast<int>(mix(i + 1000) % 40);
    jobs[i].seed = i;
    jobs[i].sampling.heat = i % 2 == 0 ? 0.0f : 2.0f;
  }
  return jobs;
}

}  // namespace fake
