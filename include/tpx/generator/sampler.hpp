// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/adaptive_p.hpp>
#include <tpx/generator/sample/argmax.hpp>
#include <tpx/generator/sample/drafted.hpp>
#include <tpx/generator/sample/dry.hpp>
#include <tpx/generator/sample/dynamic_temperature.hpp>
#include <tpx/generator/sample/gumbel.hpp>
#include <tpx/generator/sample/logit_bias.hpp>
#include <tpx/generator/sample/logprobs.hpp>
#include <tpx/generator/sample/min_p.hpp>
#include <tpx/generator/sample/mirostat2.hpp>
#include <tpx/generator/sample/parameters.hpp>
#include <tpx/generator/sample/penalties.hpp>
#include <tpx/generator/sample/state.hpp>
#include <tpx/generator/sample/temperature.hpp>
#include <tpx/generator/sample/top_a.hpp>
#include <tpx/generator/sample/top_k.hpp>
#include <tpx/generator/sample/top_n_sigma.hpp>
#include <tpx/generator/sample/top_p.hpp>
#include <tpx/generator/sample/typical.hpp>
#include <tpx/generator/sample/xtc.hpp>

namespace tpx {

/// Picks tokens from logits by a chain of stages, in the order in which they stand; the last picks.
///
///     using chain = tpx::sampler<Penalties, TopK, TopP, MinP, Temperature, Gumbel>;
///     chain sampler{{.columns = model.vocab_size()}};
///     chain::parameters const creative{TopP{0.95f}, Temperature{1.2f}};  // the rest is neutral
///     auto const token = sampler.sample({.logits = row, .seed = 42, .step = n}, creative).token;
///
/// Parameters and state belong to a request, so that one sampler serves a batch of different ones.
/// It works on one row at a time and allocates nothing after construction.
///
/// The first pass takes mask and padding, finds the largest logit of each chunk of 256 tokens, and
/// later passes skip the chunks without candidates. Where the vocabulary is cut over ranks, each
/// has a sampler with the `first` and `columns` of its part and gives `sample` what joins them: the
/// token is the same on all ranks and for any cut, and no logits are gathered. Bytes reduced, apart
/// from 16 for the largest logit after each stage that moved it: Argmax, Gumbel 8; MinP 0; TopA,
/// Mirostat2 8; Xtc 24; DynamicTemperature, TopNSigma 24; TopK, TopP, Typical 16 KiB.
template <sampler_stage... Stages>
class sampler {
  using last = std::tuple_element_t<sizeof...(Stages) - 1, std::tuple<Stages...>>;
  static_assert(picking_stage<last>, "a chain ends with a stage that picks: Argmax or Gumbel");
  static constexpr bool remembers = (stateful_stage<Stages> || ...);

 public:
  using stages = detail::stage_list<Stages...>;
  using parameters = sample_parameters<Stages...>;
  using state = sample_state<Stages...>;

  explicit sampler(sampler_options const& options)
      : memory_{options, (requires { Stages::looks_back; } || ...)} {}

  /// Throws invalid_argument naming the request, and leaves `memory` unchanged, where a logit of a
  /// token that is not forbidden is NaN, +infinity or over 1e30, or where no token is allowed.
  /// `chosen` and `memory` may be those of a longer chain.
  template <class Parameters = parameters, class State = state,
            vocabulary_reduction R = whole_vocabulary>
  [[nodiscard]] sampled sample(sample_request const& request, Parameters const& chosen,
                               State& memory, R const& reduction = {}) {
    expects(request.logits.size() == memory_.options().columns, [&] {
      return "sampler: request " + std::to_string(request.id) + " has " +
             std::to_string(request.logits.size()) + " logits, not " +
             std::to_string(memory_.options().columns);
    });
    State next = memory;
    sample_request asked = request;
    candidates<R> c{memory_, asked, reduction};
    (apply<Stages>(c, chosen, next), ...);
    sampled result{.token = pick(c, asked, chosen.template get<last>())};
    (picked<Stages>(c, chosen, result.token, next), ...);
    memory = next;
    result.top = detail::write_likeliest(c, request.top);
    if (request.logprobs) { result.logprob = detail::logprob(c, c.logit(result.token)); }
    if (request.logprobs || !request.raw_top.empty()) { look_at_raw(request, reduction, result); }
    return result;
  }

  /// For chains that remember nothing.
  template <class Parameters = parameters, vocabulary_reduction R = whole_vocabulary>
  requires(!remembers) [[nodiscard]] sampled
    sample(sample_request const& request, Parameters const& chosen, R const& reduction = {}) {
    state none;
    return sample(request, chosen, none, reduction);
  }

  /// One row after the other, each with parameters and a state of its own: all spans are as long.
  template <vocabulary_reduction R = whole_vocabulary>
  void sample(std::span<sample_request const> requests, std::span<parameters const> chosen,
              std::span<state> states, std::span<sampled> results, R const& reduction = {}) {
    expects(chosen.size() == requests.size() && states.size() == requests.size() &&
              results.size() == requests.size(),
            "sampler: a batch needs as many parameters, states and results as requests");
    for (std::size_t i = 0; i < requests.size(); ++i) {
      results[i] = sample(requests[i], chosen[i], states[i], reduction);
    }
  }

 private:
  /// `asked` is the request that c looks at.
  template <class C>
  token_id pick(C& c, sample_request& asked, last const& stage) {
    if constexpr (std::is_same_v<last, sample::Gumbel>) {
      if (!asked.drawn_from.empty()) {
        return detail::take_or_replace(c, asked, aside_, [&] {
          asked.step ^= std::uint64_t{1} << 63;  // no text is so long: noise of its own
          return stage.pick(c);
        });
      }
    }
    return stage.pick(c);
  }

  template <class S, class C, class P, class State>
  static void apply(C& c, P const& chosen, State& memory) {
    S const& stage = chosen.template get<S>();
    if constexpr (std::is_same_v<S, last>) {
      return;
    } else if (stage.neutral()) {
      return;
    } else if constexpr (stateful_stage<S>) {
      stage.apply(c, memory.template get<S>());
    } else {
      stage.apply(c);
    }
  }

  template <class S, class C, class P, class State>
  static void picked(C& c, P const& chosen, token_id token, State& memory) {
    if constexpr (stateful_stage<S>) {
      S const& stage = chosen.template get<S>();
      if (!stage.neutral()) { stage.picked(c, token, memory.template get<S>()); }
    }
  }

  template <class R>
  void look_at_raw(sample_request const& request, R const& reduction, sampled& result) {
    candidates<R> raw{memory_, request, reduction, false};
    result.raw_top = detail::write_likeliest(raw, request.raw_top);
    if (!request.logprobs) { return; }
    float const logit = raw.logit(result.token);
    result.raw_logprob = detail::logprob(raw, logit);
    result.rank = static_cast<std::size_t>(raw.count_over(logit)) + 1;
  }

  detail::sampler_memory memory_;
  std::vector<float> aside_;  // logits of a draft's tokens
};

}  // namespace tpx
