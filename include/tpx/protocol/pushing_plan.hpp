// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/pushed_movement.hpp>
#include <tpx/protocol/rolling.hpp>
#include <tpx/protocol/streamed.hpp>

#include <type_traits>

namespace tpx {
namespace detail {

template <int Value>
using peers = std::integral_constant<int, Value>;

/// f(peers<P>{}) with the least P of those that kernels are made for.
template <class F>
void with_peers(int ranks, F&& f) {
  if (ranks <= 2) {
    f(peers<2>{});
  } else if (ranks <= 4) {
    f(peers<4>{});
  } else if (ranks <= 8) {
    f(peers<8>{});
  } else {
    f(peers<16>{});
  }
}

/// Moves at once what the areas hold; false if they do not.
template <class Shots, class Go>
bool push_at_once(Shots const& shots, Go const& go) {
  return shots.packets() == 0 || go.at_once(shots);
}

/// Moves at once if the areas hold it, else round by round. AllToAll: all give and take.
template <bool AllToAll, class Shots, class Go>
void push(Shots const& shots, Go const& go) {
  if (!push_at_once(shots, go)) { go.template by_rounds<AllToAll>(shots); }
}

}  // namespace detail
}  // namespace tpx
