// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/candidates.hpp>

#include <concepts>
#include <string_view>
#include <type_traits>

namespace tpx {

/// A link of a sampler's chain: an aggregate of what a request may choose.
///
///   S::name          for chains chosen at run time
///   S{}              changes nothing
///   s.neutral()      whether it changes nothing: then it is skipped
///   s.validate()     throws tpx::error for a value out of range; called once, when parameters are
///                    made
///   s.apply(c)       changes the candidates; a template over candidates<R>
///
/// S::on_any_space = true: its functions are TPX_HD and ask of c what the Cuda space has too, so
/// that cuda_sampler takes it.
template <class S>
concept sampler_stage = std::copyable<S> && std::default_initializable<S> && requires(S const& s) {
  { S::name } -> std::convertible_to<std::string_view>;
  { s.neutral() } -> std::same_as<bool>;
  s.validate();
};

/// A stage that remembers something from token to token.
///
///   S::state                trivially copyable, so that a rewind can put it back
///   s.apply(c, state)       instead of apply(c)
///   s.picked(c, t, state)   the token t was drawn from c
template <class S>
concept stateful_stage = sampler_stage<S> && std::is_trivially_copyable_v<typename S::state>;

/// The end of a chain: s.pick(c) gives the token.
template <class S>
concept picking_stage = sampler_stage<S> && requires(S const& s, candidates<whole_vocabulary>& c) {
  { s.pick(c) } -> std::same_as<token_id>;
};

namespace detail {

/// Throws unless low <= value <= high; NaN is outside.
inline void expect_within(char const* what, double value, double low, double high) {
  expects(value >= low && value <= high, [&] {
    return std::string{what} + " is " + std::to_string(value) + ", not between " +
           std::to_string(low) + " and " + std::to_string(high);
  });
}

}  // namespace detail
}  // namespace tpx
