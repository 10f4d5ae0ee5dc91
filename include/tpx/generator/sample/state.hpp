// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

#include <type_traits>

namespace tpx {
namespace detail {

template <class S>
struct held_state {};
template <stateful_stage S>
struct held_state<S> {
  typename S::state value;
};

}  // namespace detail

/// What a chain's stages remember of one sequence. Trivially copyable: a rewind puts an old one
/// back.
template <sampler_stage... Stages>
struct sample_state : detail::held_state<Stages>... {
  static_assert((std::is_trivially_copyable_v<detail::held_state<Stages>> && ...));

  template <stateful_stage S>
  [[nodiscard]] TPX_HD typename S::state& get() {
    return static_cast<detail::held_state<S>&>(*this).value;
  }
};

}  // namespace tpx
