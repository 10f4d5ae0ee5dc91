// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/request.hpp>

#include <concepts>
#include <cstddef>

namespace tpx {

/// What the next token of a sequence is drawn from. Spans are good until it is taken.
template <class Sampler>
struct token_draw {
  sample_request request;
  typename Sampler::parameters const& chosen;  // the job's, until the sequence ends
  typename Sampler::state& memory;             // moves on with the token, and goes back with it
};

/// A sampler that has a row's token at once.
template <class S>
concept row_sampler = requires(S& s, sample_request const& request,
                               typename S::parameters const& chosen, typename S::state& memory) {
  { s.sample(request, chosen, memory) } -> std::convertible_to<sampled>;
};

/// Draws all tokens of a step of the generator. `draws` is what a generator has of them:
///
///   d.size()       sequences of the step
///   d.begin(i)     first for each sequence; returns whether it draws in this step
///   d.ask(i)       a token_draw; may throw
///   d.take(i, f)   f() is the `sampled` token that came of it, or throws what is wrong, which ends
///                  that job alone; returns whether the sequence draws again
///
/// A sequence draws again while it verifies a draft that has been right so far: what it then draws
/// from is known after `take` alone.
///
/// This goes from row to row. A sampler that works on many rows at once has a member
/// `draw(draws)`, which throws nothing: what goes wrong concerns the sequences that draw.
template <row_sampler S, class Draws>
void draw_tokens(S& sampler, Draws& draws) {
  for (std::size_t i = 0; i < draws.size(); ++i) {
    bool more = draws.begin(i);
    while (more) {
      more = draws.take(i, [&] {
        auto const d = draws.ask(i);
        return sampler.sample(d.request, d.chosen, d.memory);
      });
    }
  }
}
template <class S, class Draws>
requires requires(S& s, Draws& d) {
  s.draw(d);
}
void draw_tokens(S& sampler, Draws& draws) {
  sampler.draw(draws);
}

}  // namespace tpx
