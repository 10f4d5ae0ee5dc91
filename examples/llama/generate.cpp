// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "generate.hpp"

#include <chrono>
#include <optional>

namespace llama {

result generate(tpx::group& g, engine& model, vocabulary const& words,
                generator::options const& job, std::function<void(std::string_view)> const& each) {
  using clock = std::chrono::steady_clock;
  struct mark {
    clock::time_point time;
    engine::counts collectives;
    std::size_t tokens;
  };
  result done;
  serve(g, model, words, {.max_batch = 1}, [&](generator& serving) {
    std::optional<mark> first;
    std::size_t tokens = 0;
    auto const running = serving.enqueue(job, [&](tpx::fresh_output const& news) {
      tokens += news.tokens.size();
      if (!first) { first = {clock::now(), model.collectives(), tokens}; }
      if (each) { each(news.text); }
    });
    serving.drain();
    auto out = running.wait(std::chrono::milliseconds{0});
    g.check();
    if (out[0].reason == tpx::finish_reason::failed) {
      throw tpx::error{tpx::errc::rank_failed, out[0].error};
    }
    auto const all = model.collectives();
    done.steps = tokens - first->tokens;
    done.seconds = std::chrono::duration<double>(clock::now() - first->time).count();
    done.collectives = all.calls - first->collectives.calls;
    done.seconds_in_collectives = static_cast<double>(all.ns - first->collectives.ns) * 1e-9;
    done.tokens = std::move(out[0].tokens);
  });
  return done;
}

}  // namespace llama
