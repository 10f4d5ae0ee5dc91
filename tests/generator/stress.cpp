// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// stress [--seconds N] [--minutes N] [--seed N]
//
// Jobs that count, on a model that counts only if its cache is right: the queue's depth swings
// between 0 and 25, every third time down to nothing; prompts have 50 to 4,096 tokens, of which
// many begin alike, completions 50 to 768; some are cancelled, some are guided, some have several
// sequences, priorities or drafts; the cache is far too small, and its pages are moved all the
// time. Every token is checked, and the page table every few steps. Exits with 1 at the first
// mistake.
#include "world.hpp"

#include <tpx/generator/metrics_text.hpp>
#include <tpx/generator/ngram_draft.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace {

using namespace fake;

constexpr std::size_t vocab = 1024;
using model_t = counting_model<64>;
using clock_type = std::chrono::steady_clock;

struct pending {
  tpx::job handle;
  token_id next;  // that it must say first
  std::size_t tokens;
  bool cancelled;
};

class stress {
 public:
  explicit stress(std::uint64_t seed) : random_{seed} {}

  /// Returns what is wrong; empty if nothing is.
  std::string run(std::chrono::seconds time) {
    auto const end = clock_type::now() + time;
    std::string wrong;
    for (std::size_t swing = 0; clock_type::now() < end && wrong.empty(); ++swing) {
      auto const depth = swing % 3 == 2 ? 0 : pick(0, 25);
      while (jobs_.size() < depth) { enqueue(); }
      while (jobs_.size() > depth && wrong.empty()) {
        gen_.step();
        stuck_ = gen_.running() == 0 && gen_.waiting() > 0 ? stuck_ + 1 : 0;
        if (stuck_ > 2) { wrong = "jobs wait and nothing runs"; }
        if (++steps_ % 50 == 0) { gen_.pages().validate(); }
        if (wrong.empty()) { wrong = collect(); }
      }
      if (depth == 0 && gen_.metrics().used_pages > 0) { wrong = "pages are lost"; }
    }
    gen_.pages().validate();
    std::printf("%zu jobs, %zu steps, %zu sequences in a step at most, %zu page copies\n%s\n",
                checked_, steps_, model_.most_parts, model_.copied,
                metrics_line(gen_.metrics()).c_str());
    return wrong;
  }

 private:
  std::size_t pick(std::size_t low, std::size_t high) {
    return std::uniform_int_distribution<std::size_t>{low, high}(random_);
  }

  void enqueue() {
    options job;
    auto const first = pick(0, 3) == 0 ? pick(0, vocab - 1) : 10 * pick(0, 3);
    auto const size = pick(0, 9) == 0 ? pick(50, 4096) : pick(50, 600);
    for (std::size_t i = 0; i < size; ++i) {
      job.prompt.push_back(static_cast<token_id>((first + i) % vocab));
    }
    job.max_new_tokens = static_cast<int>(pick(50, 768));
    job.max_rq_tokens = static_cast<int>(pick(16, 512));
    job.priority = static_cast<int>(pick(0, 2));
    job.max_draft = pick(0, 2) == 0 ? static_cast<int>(pick(1, 8)) : 0;
    if (pick(0, 9) == 0) { job.sequences = 3; }
    if (pick(0, 9) == 0) { job.negative_prompt.assign(job.prompt.end() - 20, job.prompt.end()); }
    jobs_.push_back({gen_.enqueue(job), static_cast<token_id>((first + size) % vocab),
                     static_cast<std::size_t>(job.max_new_tokens), pick(0, 14) == 0});
  }

  std::string collect() {
    std::string wrong;
    std::erase_if(jobs_, [&](pending const& job) {
      if (job.cancelled && pick(0, 200) == 0) { job.handle.cancel(); }
      if (!job.handle.done()) { return false; }
      ++checked_;
      for (auto const& all : job.handle.wait(no_time)) {
        bool const whole = all.reason == finish_reason::max_new_tokens;
        if (!(whole && all.tokens.size() == job.tokens) &&
            !(job.cancelled && all.reason == finish_reason::cancelled)) {
          wrong = "job " + std::to_string(job.handle.id()) + " ended with " +
                  std::to_string(all.tokens.size()) + " tokens, " + std::string{name(all.reason)} +
                  " " + all.error;
        }
        for (std::size_t i = 0; i < all.tokens.size(); ++i) {
          if (static_cast<std::size_t>(all.tokens[i]) !=
              (static_cast<std::size_t>(job.next) + i) % vocab) {
            wrong = "job " + std::to_string(job.handle.id()) + ": token " + std::to_string(i) +
                    " is " + std::to_string(all.tokens[i]);
            break;
          }
        }
      }
      return true;
    });
    return wrong;
  }

  std::mt19937_64 random_;
  model_t model_{160, vocab};
  letters names_{vocab};
  noisy sampler_;
  tpx::ngram_drafter drafter_{12};
  generator<model_t, tpx::ngram_drafter> gen_{
    model_, sampler_, names_, drafter_, {.max_batch = 12, .token_budget = 512, .defragment = 2}};
  std::vector<pending> jobs_;
  std::size_t steps_ = 0;
  std::size_t stuck_ = 0;  // steps in a row that found nothing to run
  std::size_t checked_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  std::chrono::seconds time{10};
  std::uint64_t seed = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    auto const value = std::strtoul(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--seconds") == 0) { time = std::chrono::seconds{value}; }
    if (std::strcmp(argv[i], "--minutes") == 0) { time = std::chrono::minutes{value}; }
    if (std::strcmp(argv[i], "--seed") == 0) { seed = value; }
  }
  try {
    auto const wrong = stress{seed}.run(time);
    if (!wrong.empty()) { std::fprintf(stderr, "%s\n", wrong.c_str()); }
    return wrong.empty() ? 0 : 1;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
