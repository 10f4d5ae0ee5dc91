// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/batch.hpp>
#include <tpx/generator/generator_drafts.hpp>
#include <tpx/generator/generator_options.hpp>
#include <tpx/generator/generator_states.hpp>
#include <tpx/generator/model.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace tpx::detail {

/// One forward of a model, and what it leaves in the cache.
template <class Model, class Pages, class Drafter, class Run>
class model_step {
 public:
  model_step(Model& model, Pages& pages, Drafter& drafter, generator_options const& how)
      : model_{model},
        pages_{pages},
        drafter_{drafter},
        how_{how},
        states_{model, pages, how.checkpoints, how.max_batch},
        batch_{how.max_batch},
        drafts_{drafter, how.max_batch} {
    if constexpr (requires { drafter.pages(); }) {
      static_assert(Drafter::page_size == Model::page_size, "a draft model has the target's pages");
      expects(
        drafter.pages() >= model.pages(),
        [&] {
          return "a draft model of " + std::to_string(drafter.pages()) + " pages for a model of " +
                 std::to_string(model.pages());
        },
        "give both caches as many");
    }
  }

  /// `run` has been admitted. Returns false if its pages do not suffice after all.
  [[nodiscard]] bool start(Run& run) {
    bool enough = true;
    for (auto& c : run.contexts) { enough = states_.open(c, prompt_of(run, c)) && enough; }
    if (run.options->max_draft > 0) {
      drafter_.open(run.contexts[0].sequence, run.contexts[0].cached);
    }
    return enough;
  }

  /// Returns the logits. What is thrown concerns runs().
  template <class Running>
  std::span<float> forward(Running const& running) {
    batch_.begin(running);
    if (how_.defragment > 0) { pages_.defragment(how_.defragment); }
    pages_.carry_out(model_, drafter_);
    auto const left = batch_.share(running, how_.token_budget);
    drafts_.draft(running, batch_, pages_, left);
    batch_.gather(running, pages_);
    for (auto const& key : pages_.evicted()) { states_.evicted(key); }
    pages_.evicted_done();
    for (Run* const run : batch_.runs()) {
      if (run->drafted() == 0) { continue; }
      for (auto const& c : run->contexts) { states_.before_draft(c); }
    }
    auto const begun = std::chrono::steady_clock::now();
    std::span<float> const logits = model_.forward(batch_.parts());
    ended_ = std::chrono::steady_clock::now();
    taken_ = ended_ - begun;
    return logits;
  }

  [[nodiscard]] std::vector<Run*> const& runs() const { return batch_.runs(); }
  /// What was put behind the tokens of `run`.
  [[nodiscard]] run_draft<Drafter> draft_of(Run const& run) const {
    return {drafter_, run.contexts[0].sequence, run.drafted()};
  }
  /// When the model's last forward ended, and how long it took.
  [[nodiscard]] auto ended() const { return ended_; }
  [[nodiscard]] auto taken() const { return taken_; }

  /// The tokens of `run` are known: what the step has written and is still so is in the cache now.
  /// A refused draft and a banned text are alike here: the model has seen more than the tokens are,
  /// and cache, hashes, recurrent state and drafter go back to them. Returns false if there are not
  /// enough pages any more for its room.
  [[nodiscard]] bool keep(Run& run) {
    bool enough = true;
    for (auto& c : run.contexts) {
      auto const seen = c.cached + c.planned;
      auto const kept = std::min(seen, c.tokens.size() - 1);
      if (kept > c.cached) {
        pages_.append(c.sequence, std::span{c.tokens}.subspan(c.cached, kept - c.cached));
      } else if (kept < c.cached) {
        enough = pages_.rewind(c.sequence, kept) && enough;
      }
      if (kept < seen && run.options->max_draft > 0) { drafter_.rewind(c.sequence, kept); }
      c.cached = kept;
      enough = states_.after(c, seen, prompt_of(run, c)) && enough;
      if (c.cached < seen && run.options->max_draft > 0) { drafter_.rewind(c.sequence, c.cached); }
    }
    return enough;
  }

 private:
  static std::size_t prompt_of(Run const& run, context const& c) {
    return c.tokens.size() - run.generated();
  }

  Model& model_;
  Pages& pages_;
  Drafter& drafter_;
  generator_options how_;
  recurrent_states<Model, Pages> states_;
  batch<Pages, Run> batch_;
  draft_round<Drafter> drafts_;
  std::chrono::steady_clock::time_point ended_ = {};
  std::chrono::steady_clock::duration taken_ = {};
};

}  // namespace tpx::detail
