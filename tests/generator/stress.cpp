// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// stress [--seconds N] [--minutes N] [--seed N]
//
// Jobs that count, on a model that counts only if its cache is right: the queue's depth swings
// between 0 and 25, every third time down to nothing; prompts have 50 to 4,096 tokens, of which
// many begin alike, completions 50 to 768; some are cancelled, some are guided, some have several
// sequences, priorities, drafts, stop tokens and strings, banned strings or a filter; the cache is
// far too small, host memory takes a part of what it evicts, and its pages are moved all the time.
// Drafts come by n-grams, from a draft model without chance, and from one by chance, where
// rejection decides on them: a third of the time each. Every token and text is compared with what
// plain_job.hpp makes of the job, and the page table is checked in every step. Exits with 1 at the
// first mistake.
#include "plain_job.hpp"
#include "tiered_models.hpp"

#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/metrics_text.hpp>
#include <tpx/generator/model_draft.hpp>
#include <tpx/generator/ngram_draft.hpp>
#include <tpx/generator/sampler.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace {

using namespace fake;

constexpr std::size_t vocab = 1024;
using clock_type = std::chrono::steady_clock;

constexpr std::size_t pages = 160;
constexpr std::size_t host_pages = 60;
constexpr std::size_t at_once = 12;

/// Of tokens that it does not say, the lower is the likelier.
class ordered : public counting_model<64> {
 public:
  using counting_model::counting_model;
  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = counting_model::forward(parts);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      logits[i] -= static_cast<float>(i % vocab_) * 0x1p-10f;
    }
    return logits;
  }
};
using model_t = tiered<ordered>;
static_assert(tpx::tiered_model<model_t>);

/// Miscounts after every 16th token.
class erring : public counting_model<64> {
 public:
  using counting_model::counting_model;
  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = counting_model::forward(parts);
    auto row = logits;
    for (auto const& part : parts) {
      for (token_id const t : part.tokens.last(part.rows)) {
        if (t % 16 == 0) { row[static_cast<std::size_t>(t) / 2] = 9; }
        row = row.subspan(vocab_);
      }
    }
    return logits;
  }
};

/// Takes the likeliest, as `noisy` does without heat, but of drafts drawn by chance by rejection.
class rejecting {
  using chain = tpx::sampler<tpx::sample::TopK, tpx::sample::Gumbel>;

 public:
  using parameters = noisy::parameters;
  using state = chain::state;
  tpx::sampled sample(tpx::sample_request const& r, parameters const&, state& s) {
    return chain_.sample(r, {tpx::sample::TopK{1}}, s);
  }

 private:
  chain chain_{{.columns = vocab}};
};

struct pending {
  tpx::job handle;
  outcome expected;
  bool bans;
  bool cancelled;
};

template <class Sampler, class Drafter>
class stress {
 public:
  stress(std::uint64_t seed, Drafter& drafter)
      : random_{seed},
        gen_{model_,
             sampler_,
             names_,
             drafter,
             {.max_batch = at_once, .token_budget = 512, .defragment = 2}} {}

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
        ++steps_;
        gen_.pages().validate();
        if (wrong.empty()) { wrong = collect(); }
      }
      if (depth == 0 && gen_.metrics().used_pages > 0) { wrong = "pages are lost"; }
    }
    auto const metrics = gen_.metrics();
    if (wrong.empty() && (metrics.accepted_drafts == 0 || metrics.rejected_drafts == 0)) {
      wrong = "no draft was taken, or none refused";
    }
    std::printf(
      "%zu jobs, %zu steps, %zu sequences in a step at most, %zu page copies, %zu to the host, "
      "%zu back; %zu stop tokens, %zu stop strings, %zu times back for a banned string\n%s\n",
      checked_, steps_, model_.most_parts, model_.copied, model_.stored, model_.fetched,
      stop_tokens_, stop_strings_, went_back_, metrics_line(metrics).c_str());
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
    // Tokens and strings that the count comes by, or may.
    auto const ahead = [&] { return static_cast<token_id>((first + size + pick(0, 800)) % vocab); };
    auto const string_ahead = [&] {
      token_id const t = ahead();
      std::string text{names_.piece(t)};
      text += names_.piece(static_cast<token_id>((static_cast<std::size_t>(t) + 1) % vocab));
      return text.substr(pick(0, 1));
    };
    if (pick(0, 4) == 0) {
      job.stop_tokens = {ahead(), ahead()};
      job.min_new_tokens = static_cast<int>(pick(0, 40));
    }
    if (pick(0, 4) == 0) { job.stop_strings = {string_ahead(), string_ahead()}; }
    if (pick(0, 4) == 0) { job.banned_strings = {string_ahead(), string_ahead(), "aaa"}; }
    std::vector<bool> allowed;
    if (pick(0, 7) == 0) {
      allowed.assign(vocab, true);
      for (int i = 0; i < 3; ++i) { allowed[static_cast<std::size_t>(ahead())] = false; }
      std::vector<token_id> set;
      for (std::size_t t = 0; t < vocab; ++t) {
        if (allowed[t]) { set.push_back(static_cast<token_id>(t)); }
      }
      job.filter = tpx::allowed_tokens{vocab, set};
    }
    outcome expected = plain_job{job, vocab, names_, allowed}.run();
    bool const bans = !job.banned_strings.empty();
    jobs_.push_back({gen_.enqueue(job), std::move(expected), bans, pick(0, 14) == 0});
  }

  std::string collect() {
    std::string wrong;
    std::erase_if(jobs_, [&](pending const& job) {
      if (job.cancelled && pick(0, 200) == 0) { job.handle.cancel(); }
      if (!job.handle.done()) { return false; }
      ++checked_;
      for (auto const& all : job.handle.wait(no_time)) {
        auto const& expected = job.expected;
        stop_tokens_ += all.reason == finish_reason::stop_token;
        stop_strings_ += all.reason == finish_reason::stop_string;
        went_back_ += expected.went_back;
        bool same = all.reason == expected.reason && all.tokens == expected.tokens &&
                    all.text == expected.text;
        if (job.cancelled && all.reason == finish_reason::cancelled) {
          // What a ban would have taken back may be among the last tokens.
          std::size_t const sure =
            all.tokens.size() - std::min<std::size_t>(all.tokens.size(), job.bans ? 4 : 0);
          same =
            sure <= expected.tokens.size() &&
            std::equal(all.tokens.begin(), all.tokens.begin() + static_cast<std::ptrdiff_t>(sure),
                       expected.tokens.begin());
        }
        if (!same) {
          wrong = "job " + std::to_string(job.handle.id()) + " ended with " +
                  std::to_string(all.tokens.size()) + " tokens, " + std::string{name(all.reason)} +
                  ", not " + std::to_string(expected.tokens.size()) + ", " +
                  std::string{name(expected.reason)} + ": " + all.text + all.error + "\n" +
                  expected.text;
        }
      }
      return true;
    });
    return wrong;
  }

  std::mt19937_64 random_;
  model_t model_{pages, host_pages, vocab};
  letters names_{vocab};
  Sampler sampler_;
  tpx::generator<model_t, Sampler, letters, Drafter> gen_;
  std::vector<pending> jobs_;
  std::size_t steps_ = 0;
  std::size_t stuck_ = 0;  // steps in a row that found nothing to run
  std::size_t checked_ = 0;
  std::size_t stop_tokens_ = 0;
  std::size_t stop_strings_ = 0;
  std::size_t went_back_ = 0;
};

template <class Sampler, class Drafter>
std::string run(std::uint64_t seed, Drafter drafter, std::chrono::seconds time) {
  return stress<Sampler, Drafter>{seed, drafter}.run(time);
}

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
    tiered<erring> draft{pages, host_pages, vocab};
    tiered<erring> random_draft{pages, host_pages, vocab};
    auto wrong = run<noisy>(seed, tpx::ngram_drafter{at_once}, time / 3);
    if (wrong.empty()) {
      wrong = run<noisy>(seed, tpx::model_draft{draft, {.slots = at_once}}, time / 3);
    }
    if (wrong.empty()) {
      tpx::random_choice<> const warm{.temperature =
                                        3};  // takes what the model says half of the time
      wrong =
        run<rejecting>(seed, tpx::model_draft{random_draft, {.slots = at_once}, warm}, time / 3);
    }
    if (!wrong.empty()) { std::fprintf(stderr, "%s\n", wrong.c_str()); }
    return wrong.empty() ? 0 : 1;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
