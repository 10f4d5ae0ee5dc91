// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/draws.hpp>
#include <tpx/generator/generator_mask.hpp>
#include <tpx/generator/guidance.hpp>
#include <tpx/generator/job.hpp>
#include <tpx/generator/job_clock.hpp>
#include <tpx/generator/sample/request.hpp>
#include <tpx/generator/text_event.hpp>
#include <tpx/generator/token.hpp>

#include <cstddef>
#include <span>

namespace tpx::detail {

/// Says what a run draws from a step's logits, and gives tokens to its filter, text and user.
template <class Sampler, class Vocabulary>
class logits_reader {
 public:
  /// `columns`: of a row of logits, all the vocabulary's or this rank's.
  logits_reader(Sampler& sampler, Vocabulary const& vocabulary, std::size_t vocab_size,
                std::size_t columns)
      : sampler_{sampler}, vocabulary_{vocabulary}, vocab_size_{vocab_size}, columns_{columns} {}

  /// Before a run's first row is drawn from. Returns false if its text ends without.
  template <class Run>
  bool begin(Run& run) {
    run.right = 0;
    if (run.generated() > 0 || mask_next(run, vocab_size_)) { return true; }
    finish(run, finish_reason::filter_finished);
    return false;
  }

  /// What the run's next token is drawn from: row number run.right.
  template <class Run, class Draft>
  [[nodiscard]] token_draw<Sampler> ask(Run& run, std::span<float> logits, Draft const& draft) {
    auto const row = run.right;
    auto const at = [&](auto const& context) {
      return logits.subspan((context.row + row) * columns_, columns_);
    };
    auto const mine = at(run.contexts[0]);
    if (run.contexts.size() == 2) { guided(mine, at(run.contexts[1]), run.options->guidance); }
    run.begin_token();
    constexpr token_logprob none{-1, 0};  // where fewer tokens were possible
    token_draw<Sampler> next{{.logits = mine,
                              .history = run.tokens(),
                              .mask = run.mask,
                              .seed = run.options->seed + run.sequence,
                              .step = run.generated(),
                              .id = run.channel->id(),
                              .logprobs = run.options->logprobs,
                              .top = run.scores.top.next(none),
                              .raw_top = run.scores.raw_top.next(none),
                              .slot = run.contexts[0].sequence},
                             run.options->sampling,
                             run.state};
    // Where a ban has taken a token back, the draft is the one that led there: no chance any more.
    if (row < draft.length && run.text.forbidden().empty()) {
      next.request.drafted = draft[row];
      next.request.drawn_from = draft.drawn_from(row);
    }
    return next;
  }

  /// Gives a token to the run. Returns whether another is drawn from its next row: one is as long
  /// as the one before was drafted right. So a draft without chance changes how many tokens a step
  /// gives, and no token; and is accepted as often as rejection sampling would: with its
  /// probability in the target's distribution. From what another was drawn the sampler is told,
  /// which then picks the drafted token more often and others less, and the distribution stays.
  template <class Run, class Draft>
  bool take(Run& run, sampled const& chosen, Draft const& draft, job_clock::clock::time_point now) {
    static_cast<void>(run.scores.scores.next({chosen.logprob, chosen.raw_logprob, chosen.rank}));
    run.push(chosen.token);
    run.clock.stepped(now, run.generated());
    auto const row = run.right;
    if (!take(run, chosen.token) || row == draft.length || draft[row] != chosen.token) {
      return false;
    }
    ++run.right;
    return true;
  }

  /// Ends the text: what is held goes out.
  template <class Run>
  void finish(Run& run, finish_reason reason, std::string_view error = {}) {
    run.reason = reason;
    if (run.text.ended() != text_end::none) { return; }
    auto const last = run.text.finish();
    run.send(last.text, last.tokens, error);
  }

 private:
  /// A sampler that other ranks follow must know.
  void guided(std::span<float> logits, std::span<float const> negative, float strength) {
    if constexpr (requires { sampler_.guide(logits, negative, strength); }) {
      sampler_.guide(logits, negative, strength);
    } else {
      guide(logits, negative, strength);
    }
  }

  /// Returns whether the text goes on after this token.
  template <class Run>
  bool take(Run& run, token_id token) {
    run.filter.accept(token);
    bool const loops = run.loops.push(token);
    auto const news = run.text.push(token, run.healing.cut(vocabulary_.piece(token)));
    if (news.rewind > 0) {
      run.pop(news.rewind);
    } else {
      run.reason = news.end == text_end::stop_token    ? finish_reason::stop_token
                   : news.end == text_end::stop_string ? finish_reason::stop_string
                                                       : finish_reason::none;
      run.send(news.text, news.tokens);
    }
    if (run.reason != finish_reason::none) { return false; }
    if (run.left == 0) {
      finish(run, finish_reason::max_new_tokens);
    } else if (loops && news.rewind == 0) {
      finish(run, finish_reason::loop);
    } else if (!mask_next(run, vocab_size_)) {
      finish(run, finish_reason::filter_finished);
    }
    return run.reason == finish_reason::none && news.rewind == 0;
  }

  Sampler& sampler_;
  Vocabulary const& vocabulary_;
  std::size_t vocab_size_;
  std::size_t columns_;
};

}  // namespace tpx::detail
