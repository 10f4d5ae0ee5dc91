// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/histogram.hpp>

#include <cstdint>
#include <string_view>

namespace tpx {

/// A metric's name and meaning. `total`: it only grows.
struct metric {
  std::string_view name;  // letters, digits and _; its unit at the end
  std::string_view help;
  bool total = false;
};

/// What one job cost.
struct job_metrics {
  double queue_seconds = 0;        // waiting, each time that it had no pages
  double prefill_seconds = 0;      // from the first step to the first token
  double first_token_seconds = 0;  // from the call of enqueue to the first token
  double decode_seconds = 0;       // from the first token to the last
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;  // of the prompt, whose keys and values were there
  std::uint64_t cached_pages = 0;
  std::uint64_t new_tokens = 0;
  std::uint64_t accepted_drafts = 0;  // tokens
  std::uint64_t rejected_drafts = 0;  // tokens
  std::uint64_t preemptions = 0;      // times that it gave its pages to a higher priority
  std::uint64_t requeues = 0;         // times that it went back into the queue for more room
};

/// After the first token; 0 if there was no other.
[[nodiscard]] constexpr double tokens_per_second(job_metrics const& m) noexcept {
  return m.new_tokens > 1 && m.decode_seconds > 0
           ? static_cast<double>(m.new_tokens - 1) / m.decode_seconds
           : 0;
}

namespace detail {

inline constexpr double first_token_bounds[]{.005, .01, .025, .05, .1, .25, .5,
                                             1,    2.5, 5,    10,  30, 60};
inline constexpr double step_bounds[]{.0005, .001, .0025, .005, .01, .025,
                                      .05,   .1,   .25,   .5,   1,   2.5};
inline constexpr double host_bounds[]{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5,
                                      1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2};
inline constexpr double batch_bounds[]{1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

constexpr double ratio(std::uint64_t part, std::uint64_t whole) noexcept {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

}  // namespace detail

/// What a generator did since its start, and how it stands.
struct generator_metrics {
  std::uint64_t finished_jobs = 0;
  std::uint64_t failed_jobs = 0;
  std::uint64_t cancelled_jobs = 0;
  std::uint64_t preemptions = 0;  // of jobs that have ended, as are the next six
  std::uint64_t requeues = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t new_tokens = 0;
  std::uint64_t accepted_drafts = 0;
  std::uint64_t rejected_drafts = 0;
  std::uint64_t evicted_pages = 0;
  std::uint64_t moved_pages = 0;  // by defragmentation
  std::uint64_t running_jobs = 0;
  std::uint64_t queued_jobs = 0;
  std::uint64_t free_pages = 0;    // that hold nothing
  std::uint64_t cached_pages = 0;  // that nobody uses, but may
  std::uint64_t used_pages = 0;
  double fragmentation = 0;  // share of the pages that do not lie right after their predecessor
  histogram<detail::first_token_bounds> first_token_seconds;
  histogram<detail::step_bounds> step_seconds;
  histogram<detail::host_bounds> host_seconds;  // of a step, without the model
  histogram<detail::batch_bounds> batch_size;   // sequences of a step

  /// Takes up a job that has ended, in one of the three ways that `outcome` counts.
  constexpr void add(job_metrics const& job, std::uint64_t generator_metrics::*outcome) noexcept {
    ++(this->*outcome);
    preemptions += job.preemptions;
    requeues += job.requeues;
    prompt_tokens += job.prompt_tokens;
    cached_tokens += job.cached_tokens;
    new_tokens += job.new_tokens;
    accepted_drafts += job.accepted_drafts;
    rejected_drafts += job.rejected_drafts;
    if (job.new_tokens > 0) { first_token_seconds.add(job.first_token_seconds); }
  }

  /// Of `sequences` sequences: its time, and that without the model's.
  constexpr void add_step(std::size_t sequences, double seconds, double host) noexcept {
    batch_size.add(static_cast<double>(sequences));
    step_seconds.add(seconds);
    host_seconds.add(host);
  }
};

/// Calls use(metric, value) for each value, a number or a histogram. What has such a function can
/// be written as text by metrics_text.hpp.
template <class Use>
constexpr void describe(job_metrics const& m, Use&& use) {
  use(metric{"queue_seconds", "Waiting for a first or another turn."}, m.queue_seconds);
  use(metric{"prefill_seconds", "From the first step to the first token."}, m.prefill_seconds);
  use(metric{"first_token_seconds", "From enqueue to the first token."}, m.first_token_seconds);
  use(metric{"decode_seconds", "From the first token to the last."}, m.decode_seconds);
  use(metric{"tokens_per_second", "After the first token."}, tokens_per_second(m));
  use(metric{"prompt_tokens", "Tokens of the prompt.", true}, m.prompt_tokens);
  use(metric{"cached_tokens", "Tokens of the prompt found in the cache.", true}, m.cached_tokens);
  use(metric{"cached_pages", "Pages of the prompt found in the cache.", true}, m.cached_pages);
  use(metric{"new_tokens", "Tokens generated.", true}, m.new_tokens);
  use(metric{"accepted_drafts", "Drafted tokens accepted.", true}, m.accepted_drafts);
  use(metric{"rejected_drafts", "Drafted tokens rejected.", true}, m.rejected_drafts);
  use(metric{"preemptions", "Times that it gave its pages to a higher priority.", true},
      m.preemptions);
  use(metric{"requeues", "Times that it went back into the queue for more room.", true},
      m.requeues);
}

template <class Use>
constexpr void describe(generator_metrics const& m, Use&& use) {
  use(metric{"finished_jobs", "Jobs that came to their end.", true}, m.finished_jobs);
  use(metric{"failed_jobs", "Jobs that ended with an error.", true}, m.failed_jobs);
  use(metric{"cancelled_jobs", "Jobs that were cancelled.", true}, m.cancelled_jobs);
  use(metric{"preemptions", "Times that jobs gave their pages to a higher priority.", true},
      m.preemptions);
  use(metric{"requeues", "Times that jobs went back into the queue for more room.", true},
      m.requeues);
  use(metric{"prompt_tokens", "Tokens of prompts.", true}, m.prompt_tokens);
  use(metric{"cached_tokens", "Tokens of prompts found in the cache.", true}, m.cached_tokens);
  use(metric{"new_tokens", "Tokens generated.", true}, m.new_tokens);
  use(metric{"accepted_drafts", "Drafted tokens accepted.", true}, m.accepted_drafts);
  use(metric{"rejected_drafts", "Drafted tokens rejected.", true}, m.rejected_drafts);
  use(metric{"evicted_pages", "Pages whose tokens gave way to others.", true}, m.evicted_pages);
  use(metric{"moved_pages", "Pages moved by defragmentation.", true}, m.moved_pages);
  use(metric{"running_jobs", "Jobs that have pages."}, m.running_jobs);
  use(metric{"queued_jobs", "Jobs that wait for pages."}, m.queued_jobs);
  use(metric{"free_pages", "Pages that hold nothing."}, m.free_pages);
  use(metric{"cached_pages", "Pages that hold tokens of no running job."}, m.cached_pages);
  use(metric{"used_pages", "Pages of running jobs."}, m.used_pages);
  use(metric{"fragmentation_ratio", "Pages that do not lie right after their predecessor."},
      m.fragmentation);
  use(metric{"cache_hit_ratio", "Tokens of prompts found in the cache, of all."},
      detail::ratio(m.cached_tokens, m.prompt_tokens));
  use(metric{"draft_acceptance_ratio", "Drafted tokens accepted, of all."},
      detail::ratio(m.accepted_drafts, m.accepted_drafts + m.rejected_drafts));
  use(metric{"first_token_seconds", "From enqueue to the first token."}, m.first_token_seconds);
  use(metric{"step_seconds", "Time of a step."}, m.step_seconds);
  use(metric{"host_seconds", "Time of a step without the model."}, m.host_seconds);
  use(metric{"batch_size", "Sequences of a step."}, m.batch_size);
}

}  // namespace tpx
