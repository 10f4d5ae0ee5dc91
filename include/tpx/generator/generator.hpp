// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/caught.hpp>
#include <tpx/generator/draws.hpp>
#include <tpx/generator/generator_check.hpp>
#include <tpx/generator/generator_make.hpp>
#include <tpx/generator/generator_options.hpp>
#include <tpx/generator/generator_read.hpp>
#include <tpx/generator/generator_run.hpp>
#include <tpx/generator/generator_step.hpp>
#include <tpx/generator/healed_filter.hpp>
#include <tpx/generator/job.hpp>
#include <tpx/generator/job_channel.hpp>
#include <tpx/generator/metrics.hpp>
#include <tpx/generator/model.hpp>
#include <tpx/generator/page_table.hpp>
#include <tpx/generator/queue.hpp>
#include <tpx/generator/scheduler.hpp>
#include <tpx/generator/step_draws.hpp>
#include <tpx/generator/text_pieces.hpp>
#include <tpx/generator/token_healing.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace tpx {

/// Serves many jobs at once on one model.
///
/// One thread steps it; any thread may enqueue and cancel. A job's tokens depend on the job alone:
/// not on what else runs, on preemption, on what is in the cache or on drafts.
template <generator_model Model, class Sampler, vocabulary Vocabulary, drafter Drafter = no_drafter,
          class Pages = page_table<Model::page_size>>
class generator {
 public:
  using options = job_options<typename Sampler::parameters>;

  /// All arguments but `how` must outlive it.
  generator(Model& model, Sampler& sampler, Vocabulary const& vocabulary, Drafter& drafter,
            generator_options const& how = {})
      : model_{model},
        vocabulary_{vocabulary},
        how_{detail::checked(how, vocabulary.size(), model.vocab_size())},
        pages_{{.pages = model.pages(),
                .host_pages = host_pages_of(model),
                .max_sequences = how.max_batch}},
        scheduler_{pages_},
        step_{model, pages_, drafter, how},
        sampler_{sampler},
        reader_{sampler, vocabulary, model.vocab_size(), columns(model)} {}

  generator(Model& model, Sampler& sampler, Vocabulary const& vocabulary,
            generator_options const& how = {}) requires std::same_as<Drafter, no_drafter>
      : generator{model, sampler, vocabulary, none_, how} {}

  generator(generator const&) = delete;
  generator& operator=(generator const&) = delete;

  /// Jobs that have not ended are cancelled.
  ~generator() {
    take_news();
    while (run* const r = scheduler_.find([](run const&) { return true; })) {
      end(*r, finish_reason::cancelled);
    }
  }

  /// From any thread, at any time. Throws invalid_argument for a job that could never run.
  job enqueue(options wanted) { return enqueue(std::move(wanted), nullptr); }

  /// The same. `hear`: void(fresh_output const&), called by the stepping thread; it must not block,
  /// and what it throws ends the job.
  template <std::invocable<fresh_output const&> F>
  job enqueue(options wanted, F hear) {
    return enqueue(std::move(wanted), std::make_unique<detail::listener_of<F>>(std::move(hear)));
  }

  /// One step of all jobs that are running, after the admission of those that can. Returns false if
  /// there was nothing to do. Throws nothing that a job, a callback or the model is to blame for:
  /// those jobs fail.
  bool step() {
    auto const begun = clock::now();
    auto const cancels = cancels_->load(std::memory_order_acquire);  // before the jobs they are of
    take_news();
    end_cancelled(cancels);
    admit(clock::now());
    if (host_pages_of(model_) > 0) { scheduler_.fetch_ahead(how_.prefetch); }
    if (scheduler_.running().empty()) { return !scheduler_.waiting().empty(); }
    std::span<float> logits;
    try {
      logits = step_.forward(scheduler_.running());
    } catch (...) {
      auto const why = detail::caught();
      for (run* const r : step_.runs()) { end(*r, finish_reason::failed, why); }
      return true;
    }
    auto const sequences = step_.runs().size();
    detail::step_draws draws{
      reader_, step_, logits, [this](run& r) { keep(r); },
      [this](run& r, std::string_view why) { end(r, finish_reason::failed, why); }};
    draw_tokens(sampler_, draws);
    auto const taken = clock::now() - begun;
    totals_.add_step(sequences, detail::job_clock::seconds(taken),
                     detail::job_clock::seconds(taken - step_.taken()));
    return true;
  }

  /// Steps until there is nothing to do.
  void drain() {
    while (step()) {}
  }

  /// Steps until `stop` is requested, asleep while there is nothing to do.
  void serve(std::stop_token stop) {
    std::stop_callback const wake{stop, [this] { news_.post(nullptr); }};
    while (!stop.stop_requested()) {
      if (!step()) { news_.wait(); }
    }
  }

  /// For the stepping thread, as the next three. O(pages).
  [[nodiscard]] generator_metrics metrics() {
    generator_metrics m = totals_;
    page_table_stats const p = pages_.stats();
    m.evicted_pages = p.evicted_pages;
    m.moved_pages = p.moved_pages;
    m.running_jobs = running();
    m.queued_jobs = waiting();
    m.free_pages = p.blank;
    m.cached_pages = p.idle;
    m.used_pages = p.used + p.reserved;
    m.fragmentation = p.fragmentation;
    return m;
  }
  [[nodiscard]] Pages const& pages() const { return pages_; }
  [[nodiscard]] std::size_t running() const { return scheduler_.running().size(); }
  [[nodiscard]] std::size_t waiting() const { return scheduler_.waiting().size(); }

 private:
  using run = detail::job_run<options, typename Sampler::state>;
  using clock = detail::job_clock::clock;

  static std::size_t columns(Model const& model) {
    if constexpr (requires { model.columns(); }) { return model.columns(); }
    return model.vocab_size();
  }

  static std::size_t max_tokens(Model const& model) {
    if constexpr (requires { model.max_tokens(); }) { return model.max_tokens(); }
    return std::numeric_limits<std::size_t>::max();
  }

  job enqueue(options wanted, std::unique_ptr<detail::listener> hears) {
    detail::check_job(wanted,
                      {model_.vocab_size(), model_.pages(), Model::page_size, how_.max_batch,
                       max_tokens(model_), !std::same_as<Drafter, no_drafter>});
    if constexpr (requires { sampler_.check(wanted.sampling); }) {
      sampler_.check(wanted.sampling);
    }
    auto const channel = std::make_shared<detail::job_channel>(++last_id_, detail::room_for(wanted),
                                                               std::move(hears), cancels_);
    auto const healing = wanted.heal_tokens ? heal(wanted) : 0;
    news_.post(detail::make_run<run>(std::move(wanted), healing, channel));
    return job{channel};
  }

  /// Takes off what is to be healed, and returns how many bytes that is.
  std::size_t heal(options& wanted) {
    std::call_once(sorted_, [&] { pieces_.emplace(vocabulary_); });
    token_healing<Vocabulary> healing{*pieces_, wanted.prompt};
    wanted.prompt.resize(healing.kept());
    auto const bytes = healing.prefix().size();
    if (bytes > 0 && wanted.filter.has_value()) {
      wanted.filter = healed_filter{*pieces_, std::move(healing), std::move(wanted.filter)};
    } else if (bytes > 0) {
      wanted.filter = std::move(healing);
    }
    return bytes;
  }

  void take_news() {
    news_.drain([&](std::unique_ptr<run> r) {
      if (r) { scheduler_.enqueue(std::move(r)); }
    });
  }

  void end_cancelled(std::size_t cancels) {
    if (std::exchange(cancels_seen_, cancels) == cancels) { return; }
    while (run* const r = scheduler_.find([](run const& c) { return c.channel->cancelled(); })) {
      end(*r, finish_reason::cancelled);
    }
  }

  void admit(clock::time_point now) {
    std::vector<std::pair<run*, std::string>> broken;
    scheduler_.admit([&](run& r) {
      try {
        if (!step_.start(r)) { return false; }
      } catch (...) { broken.emplace_back(&r, detail::caught()); }
      r.clock.admitted(now, r.contexts[0].cached, Model::page_size);
      return true;
    });
    for (auto const& [r, why] : broken) { end(*r, finish_reason::failed, why); }
  }

  /// The step is over for `r`.
  void keep(run& r) {
    if (r.rows > 0) {
      r.learn();
      for (auto& f : r.followers) { scheduler_.enqueue(std::move(f)); }
      r.followers.clear();
    }
    if (!step_.keep(r)) { r.room = 0; }
    if (r.reason != finish_reason::none) {
      count(*scheduler_.release(r));
    } else if (r.room == 0) {
      scheduler_.extend(r);
    }
  }

  /// Ends a run wherever it is, and those that wait for its prompt.
  void end(run& r, finish_reason reason, std::string_view error = {}) {
    auto const gone = scheduler_.remove(r);
    finish(*gone, reason, error);
    for (auto const& f : gone->followers) { finish(*f, reason, error); }
  }

  void finish(run& r, finish_reason reason, std::string_view error) {
    try {
      reader_.finish(r, reason, error);
    } catch (...) {  // a callback's, which has been told all the same
    }
    count(r);
  }

  void count(run const& r) {
    totals_.add(r.clock.metrics, r.reason == finish_reason::failed ? &generator_metrics::failed_jobs
                                 : r.reason == finish_reason::cancelled
                                   ? &generator_metrics::cancelled_jobs
                                   : &generator_metrics::finished_jobs);
  }

  [[no_unique_address]] no_drafter none_;
  Model& model_;
  Vocabulary const& vocabulary_;
  generator_options how_;
  Pages pages_;
  detail::scheduler<Pages, run> scheduler_;
  detail::model_step<Model, Pages, Drafter, run> step_;
  Sampler& sampler_;
  detail::logits_reader<Sampler, Vocabulary> reader_;
  generator_metrics totals_;
  detail::inbox<std::unique_ptr<run>> news_;  // null: wakes serve()
  std::shared_ptr<std::atomic<std::size_t>> cancels_ =
    std::make_shared<std::atomic<std::size_t>>(0);
  std::size_t cancels_seen_ = 0;
  std::once_flag sorted_;
  std::optional<text_pieces<Vocabulary>> pieces_;  // for healing, once a job asks for it
  std::atomic<job_id> last_id_ = 0;
};

}  // namespace tpx
