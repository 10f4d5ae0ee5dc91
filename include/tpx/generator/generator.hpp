// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/batch.hpp>
#include <tpx/generator/generator_run.hpp>
#include <tpx/generator/job.hpp>
#include <tpx/generator/job_channel.hpp>
#include <tpx/generator/model.hpp>
#include <tpx/generator/queue.hpp>
#include <tpx/generator/scheduler.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tpx {

struct generator_options {
  std::size_t max_batch = 256;      // sequences that are running at a time
  std::size_t token_budget = 2048;  // tokens a step, of prompts and decodes together
};

/// Serves many jobs at once on one model.
template <generator_model Model, class Sampler, vocabulary Vocabulary, class Pages>
class generator {
 public:
  using options = job_options<typename Sampler::params, int>;

  generator(Model& model, Vocabulary const& vocab, generator_options const& how = {})
      : model_{model},
        vocabulary_{vocab},
        how_{how},
        pages_{{.pages = model.pages()}},
        scheduler_{pages_, how.max_batch},
        batch_{how.max_batch} {}

  generator(generator const&) = delete;
  generator& operator=(generator const&) = delete;

  job enqueue(options wanted) {
    auto const shared = std::make_shared<options const>(std::move(wanted));
    auto const channel = std::make_shared<detail::job_channel>(
      ++last_id_, 1, static_cast<std::size_t>(shared->max_new_tokens), cancels_);
    auto r = std::make_unique<run>();
    r->options = shared;
    r->channel = channel;
    r->prompt = shared->prompt.size();
    r->place.priority = shared->priority;
    r->left = static_cast<std::size_t>(shared->max_new_tokens);
    r->most_room = static_cast<std::size_t>(shared->max_rq_tokens);
    r->contexts.resize(1);
    r->contexts[0].tokens.reserve(r->prompt + r->left);
    r->contexts[0].tokens = shared->prompt;
    news_.post(std::move(r));
    return job{channel};
  }

  bool step() {
    news_.drain([&](auto&& r) { scheduler_.enqueue(std::move(r)); });
    scheduler_.admit([](run&) {});
    if (scheduler_.running().empty()) { return false; }
    batch_.plan(scheduler_.running(), pages_, how_.token_budget, 0, [](run&, std::size_t) {});
    model_.copy(pages_.copies());
    pages_.copies_done();
    std::span<float> const logits = model_.forward(batch_.parts());
    for (run* const r : batch_.runs()) { read(*r, logits); }
    return true;
  }

 private:
  using run = detail::job_run<options, Sampler>;

  void read(run& r, std::span<float> logits) {
    std::size_t const vocab = model_.vocab_size();
    for (auto& c : r.contexts) {
      pages_.append(c.sequence, std::span{c.tokens}.subspan(c.cached, c.planned));
      c.cached += c.planned;
    }
    if (r.rows == 0) { return; }
    auto const s = Sampler::sample(logits.subspan(r.contexts[0].row * vocab, vocab));
    r.push(s);
    r.channel->add(r.sequence, vocabulary_.piece(s), {&s, 1}, {});
    if (r.left == 0) {
      r.channel->finish(r.sequence, finish_reason::max_new_tokens, "");
      static_cast<void>(scheduler_.release(r));
    } else if (r.room == 0) {
      scheduler_.extend(r);
    }
  }

  Model& model_;
  Vocabulary const& vocabulary_;
  generator_options how_;
  Pages pages_;
  detail::scheduler<Pages, run> scheduler_;
  detail::batch<Pages, run> batch_;
  detail::inbox<std::unique_ptr<run>> news_;
  std::shared_ptr<std::atomic<std::size_t>> cancels_ =
    std::make_shared<std::atomic<std::size_t>>(0);
  std::atomic<job_id> last_id_ = 0;
};

}  // namespace tpx
