// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/argmax.hpp>
#include <tpx/generator/sample/gumbel.hpp>
#include <tpx/generator/sample/min_p.hpp>
#include <tpx/generator/sample/parameters.hpp>
#include <tpx/generator/sample/temperature.hpp>
#include <tpx/generator/sample/top_k.hpp>
#include <tpx/generator/sample/top_p.hpp>

namespace tpx {
namespace detail {

struct no_state {};

template <class S>
struct state_of {
  using type = no_state;
};
template <stateful_stage S>
struct state_of<S> {
  using type = typename S::state;
};

}  // namespace detail

/// Picks tokens from logits by a chain of stages, in the order in which they stand.
template <sampler_stage... Stages>
class sampler {
  using last = std::tuple_element_t<sizeof...(Stages) - 1, std::tuple<Stages...>>;
  static_assert(picking_stage<last>, "a chain ends with a stage that picks: Argmax or Gumbel");

 public:
  using parameters = sample_parameters<Stages...>;

  explicit sampler(sampler_options const& options) : memory_{options} {}

  template <class Parameters, vocabulary_reduction R = whole_vocabulary>
  [[nodiscard]] sampled sample(sample_request const& request, Parameters const& chosen,
                               R const& reduction = {}) {
    candidates<R> c{memory_, request, reduction};
    (apply<Stages>(c, chosen), ...);
    return {.token = chosen.template get<last>().pick(c)};
  }

 private:
  template <class S, class C, class P>
  void apply(C& c, P const& chosen) {
    if constexpr (!std::is_same_v<S, last>) {
      S const& stage = chosen.template get<S>();
      if (!stage.neutral()) { stage.apply(c); }
    }
  }

  detail::sampler_memory memory_;
};

}  // namespace tpx
