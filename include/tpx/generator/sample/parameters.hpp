// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

#include <tuple>

namespace tpx {
namespace detail {

template <class S, class... Stages>
inline constexpr std::size_t times_in = (std::size_t{std::is_same_v<S, Stages>} + ... + 0);

template <class... Stages>
struct stage_list {};

}  // namespace detail

/// What a request chooses for each stage of a chain; stages that are not given change nothing.
/// Throws invalid_argument for a value out of range.
template <sampler_stage... Stages>
class sample_parameters {
  static_assert(((detail::times_in<Stages, Stages...> == 1) && ...),
                "a stage stands once in a chain");

 public:
  template <class... Given>
  requires(!std::is_same_v<Given, sample_parameters> && ...)
    sample_parameters(Given const&... given) {
    (set(given), ...);
  }

  template <sampler_stage S>
  void set(S const& stage) {
    static_assert(detail::times_in<S, Stages...> == 1, "the chain has no such stage");
    stage.validate();
    std::get<S>(stages_) = stage;
  }
  template <sampler_stage S>
  [[nodiscard]] S const& get() const {
    return std::get<S>(stages_);
  }

 private:
  std::tuple<Stages...> stages_;
};

}  // namespace tpx
