// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/metrics.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace tpx::detail {

/// Takes the time of one sequence of a job.
struct job_clock {
  using clock = std::chrono::steady_clock;

  job_metrics metrics = {};
  clock::time_point enqueued = clock::now();
  clock::time_point waits_since = enqueued;
  clock::time_point begun = {};
  clock::time_point first = {};

  static double seconds(clock::duration d) { return std::chrono::duration<double>(d).count(); }

  /// It got its pages, of which the first `cached` tokens were there.
  void admitted(clock::time_point now, std::size_t cached, std::size_t page_size) {
    metrics.queue_seconds += seconds(now - waits_since);
    if (begun != clock::time_point{}) { return; }
    begun = now;
    metrics.cached_tokens = cached;
    metrics.cached_pages = cached / page_size;
  }

  /// It has so many new tokens now.
  void stepped(clock::time_point now, std::size_t new_tokens) {
    if (metrics.new_tokens == 0) {
      first = now;
      metrics.prefill_seconds = seconds(now - begun);
      metrics.first_token_seconds = seconds(now - enqueued);
    }
    metrics.new_tokens = new_tokens;
    metrics.decode_seconds = seconds(now - first);
  }
};

}  // namespace tpx::detail
