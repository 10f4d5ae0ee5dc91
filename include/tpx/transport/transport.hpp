// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>

#include <concepts>
#include <cstddef>
#include <string_view>

namespace tpx {

/// Which memory of another rank can be touched, on a space.
///
/// 1. `shared`: what goes to all others is written once and read in place; else it is pushed to
///    each.
/// 2. `memory<Space>(group, bytes)`: makes and maps all ranks' windows, each of so many bytes; all
///    ranks construct it.
/// 3. `window(rank)`: the window of a rank as this rank addresses it, zeroed at start;
/// `transport()`: its
///    name, for people.
template <class T, class Space>
concept transport_on = requires(group& g, std::size_t bytes,
                                typename T::template memory<Space> const& m, int rank) {
  { T::shared } -> std::convertible_to<bool>;
  requires std::constructible_from<typename T::template memory<Space>, group&, std::size_t>;
  { m.window(rank) } -> std::same_as<std::byte*>;
  { m.transport() } -> std::convertible_to<std::string_view>;
};

}  // namespace tpx
