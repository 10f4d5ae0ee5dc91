// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/batch.hpp>
#include <tpx/generator/generator_check.hpp>
#include <tpx/generator/generator_drafts.hpp>
#include <tpx/generator/generator_make.hpp>
#include <tpx/generator/generator_read.hpp>
#include <tpx/generator/generator_run.hpp>
#include <tpx/generator/generator_states.hpp>
#include <tpx/generator/job.hpp>
#include <tpx/generator/job_channel.hpp>
#include <tpx/generator/model.hpp>
#include <tpx/generator/page_table.hpp>
#include <tpx/generator/queue.hpp>
#include <tpx/generator/scheduler.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace tpx {

struct generator_options {
  std::size_t max_batch = 256;      // sequences that are running at a time; a guided one is two
  std::size_t token_budget = 2048;  // tokens of a step: prompts, decodes and drafts together
  std::size_t defragment = 0;       // pages that may be moved together a step
  checkpoint_options checkpoints = {};
};

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
        drafter_{drafter},
        how_{how},
        pages_{{.pages = model.pages(),
                .host_pages = host_pages(model),
                .max_sequences = how.max_batch}},
        states_{model, pages_, how.checkpoints, how.max_batch},
        scheduler_{pages_},
        batch_{how.max_batch},
        drafts_{drafter, how.max_batch},
        reader_{sampler, vocabulary, model.vocab_size()} {
    expects(vocabulary.size() == model.vocab_size(), [&] {
      return "a vocabulary of " + std::to_string(vocabulary.size()) + " tokens for a model of " +
             std::to_string(model.vocab_size());
    });
    expects(how.max_batch >= 1, "max_batch is 0");
    expects(how.token_budget > how.max_batch, [&] {
      return "token_budget is " + std::to_string(how.token_budget) + " and max_batch " +
             std::to_string(how.max_batch) + ": prompts would wait for ever";
    });
  }

  generator(Model& model, Sampler& sampler, Vocabulary const& vocabulary,
            generator_options const& how = {})
  requires std::same_as<Drafter, no_drafter>
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
    return enqueue(std::move(wanted),
                   std::make_unique<detail::listener_of<F>>(std::move(hear)));
  }

  /// One step of all jobs that are running, after the admission of those that can. Returns false if
  /// there was nothing to do. Throws nothing that a job, a callback or the model is to blame for:
  /// those jobs fail.
  bool step() {
    take_news();
    end_cancelled();
    admit();
    if (scheduler_.running().empty()) { return false; }
    try {
      forward();
    } catch (std::exception const& e) {
      for (run* const r : batch_.runs()) { end(*r, finish_reason::failed, e.what()); }
      return true;
    }
    for (run* const r : batch_.runs()) { read(*r); }
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

  [[nodiscard]] Pages const& pages() const { return pages_; }
  [[nodiscard]] std::size_t running() const { return scheduler_.running().size(); }
  [[nodiscard]] std::size_t waiting() const { return scheduler_.waiting().size(); }

 private:
  using run = detail::job_run<options, typename Sampler::state>;

  static std::size_t host_pages(Model const& model) {
    if constexpr (tiered_model<Model>) { return model.host_pages(); }
    return 0;
  }

  job enqueue(options wanted, std::unique_ptr<detail::listener> hears) {
    detail::check_job(wanted, {model_.vocab_size(), model_.pages(), Model::page_size,
                               how_.max_batch, !std::same_as<Drafter, no_drafter>});
    auto const channel = std::make_shared<detail::job_channel>(
      ++last_id_, static_cast<std::size_t>(wanted.sequences),
      static_cast<std::size_t>(wanted.max_new_tokens), std::move(hears), cancels_);
    news_.post(detail::make_run<run>(std::move(wanted), channel));
    return job{channel};
  }

  void take_news() {
    news_.drain([&](std::unique_ptr<run> r) {
      if (r) { scheduler_.enqueue(std::move(r)); }
    });
  }

  void end_cancelled() {
    auto const seen = cancels_->load(std::memory_order_acquire);
    if (std::exchange(cancels_seen_, seen) == seen) { return; }
    while (run* const r = scheduler_.find([](run const& c) { return c.channel->cancelled(); })) {
      end(*r, finish_reason::cancelled);
    }
  }

  void admit() {
    scheduler_.admit([&](run& r) {
      bool enough = true;
      for (auto& c : r.contexts) {
        enough = states_.open(c, c.tokens.size() - r.generated()) && enough;
      }
      drafter_.open(r.contexts[0].sequence, r.contexts[0].cached);
      return enough;
    });
    for (auto const& key : pages_.evicted()) { states_.evicted(key); }
    pages_.evicted_done();
  }

  void forward() {
    auto const& running = scheduler_.running();
    batch_.begin(running);
    if (how_.defragment > 0) { pages_.defragment(how_.defragment); }
    drafter_.copy(pages_.copies());
    pages_.carry_out(model_);
    auto const left = batch_.share(running, how_.token_budget);
    drafts_.draft(running, batch_, pages_, left);
    batch_.gather(running, pages_);
    for (run* const r : batch_.runs()) {
      if (r->drafted() > 0) {
        for (auto const& c : r->contexts) { states_.before_draft(c); }
      }
    }
    logits_ = model_.forward(batch_.parts());
  }

  void read(run& r) {
    try {
      take(r);
    } catch (std::exception const& e) {
      end(r, finish_reason::failed, e.what());
      return;
    }
    if (r.reason != finish_reason::none) {
      static_cast<void>(scheduler_.release(r));
    } else if (r.room == 0) {
      scheduler_.extend(r);
    }
  }

  void take(run& r) {
    r.undraft();
    if (r.rows > 0) {
      auto const right = reader_.read(r, logits_, drafts_.of(r.contexts[0].sequence));
      r.window.learn(static_cast<std::uint32_t>(r.drafted()), static_cast<std::uint32_t>(right));
      for (auto& f : r.followers) { scheduler_.enqueue(std::move(f)); }
      r.followers.clear();
    }
    for (auto& c : r.contexts) {
      if (!move_on(c, c.tokens.size() - r.generated())) { r.room = 0; }
    }
  }

  /// What the step has written of `c`, and is still so, is in the cache now. Returns false if there
  /// are not enough pages any more for the run's room.
  [[nodiscard]] bool move_on(detail::context& c, std::size_t prompt) {
    bool enough = true;
    auto const seen = c.cached + c.planned;
    auto const known = std::min(seen, c.tokens.size() - 1);
    if (known > c.cached) {
      pages_.append(c.sequence, std::span{c.tokens}.subspan(c.cached, known - c.cached));
    } else if (known < c.cached) {
      enough = pages_.rewind(c.sequence, known);
      drafter_.rewind(c.sequence, known);
    }
    c.cached = known;
    return states_.after(c, seen, prompt) && enough;
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
    } catch (std::exception const&) {  // a callback's, which has been told all the same
    }
  }

  [[no_unique_address]] no_drafter none_;
  Model& model_;
  Drafter& drafter_;
  generator_options how_;
  Pages pages_;
  detail::recurrent_states<Model, Pages> states_;
  detail::scheduler<Pages, run> scheduler_;
  detail::batch<Pages, run> batch_;
  detail::draft_round<Drafter> drafts_;
  detail::logits_reader<Sampler, Vocabulary> reader_;
  std::span<float> logits_;
  detail::inbox<std::unique_ptr<run>> news_;  // null: wakes serve()
  std::shared_ptr<std::atomic<std::size_t>> cancels_ =
    std::make_shared<std::atomic<std::size_t>>(0);
  std::size_t cancels_seen_ = 0;
  std::atomic<job_id> last_id_ = 0;
};

}  // namespace tpx
