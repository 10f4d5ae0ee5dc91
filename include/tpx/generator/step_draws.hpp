// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/caught.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace tpx::detail {

/// What a step has for draw_tokens(). `over(run)` is called when the step is over for a run, and
/// `fail(run, why)` instead where something went wrong with it.
template <class Reader, class Step, class Over, class Fail>
class step_draws {
 public:
  step_draws(Reader& reader, Step const& step, std::span<float> logits, Over over, Fail fail)
      : reader_{reader}, step_{step}, logits_{logits}, over_{over}, fail_{fail} {}

  [[nodiscard]] std::size_t size() const { return step_.runs().size(); }

  bool begin(std::size_t i) {
    auto& run = *step_.runs()[i];
    run.undraft();
    run.clock.waits_since = step_.ended();
    return goes_on(run, [&] { return run.rows > 0 && reader_.begin(run); });
  }
  [[nodiscard]] auto ask(std::size_t i) {
    auto& run = *step_.runs()[i];
    return reader_.ask(run, logits_, step_.draft_of(run));
  }
  template <class F>
  bool take(std::size_t i, F drawn) {
    auto& run = *step_.runs()[i];
    return goes_on(run,
                   [&] { return reader_.take(run, drawn(), step_.draft_of(run), step_.ended()); });
  }

 private:
  template <class Run, class F>
  bool goes_on(Run& run, F next) {
    try {
      if (next()) { return true; }
      over_(run);
    } catch (...) {
      auto const whose = "job " + std::to_string(run.channel->id()) + ": ";
      fail_(run, whose + caught());
    }
    return false;
  }

  Reader& reader_;
  Step const& step_;
  std::span<float> logits_;
  Over over_;
  Fail fail_;
};

}  // namespace tpx::detail
