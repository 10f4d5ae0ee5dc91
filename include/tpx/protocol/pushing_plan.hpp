// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/pushed_movement.hpp>

#include <algorithm>
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
  if (shots.packets() == 0) { return true; }
  if (!go.fits(shots)) { return false; }
  go(at_once<Shots>{shots, go.rounds(shots, 1)}, go.blocks(shots, 1));
  return true;
}

/// Moves at once if the areas hold it, else streamed.
template <class Shots, class Go>
void push(Shots const& shots, Go const& go) {
  if (push_at_once(shots, go)) { return; }
  constexpr unsigned crews = streamed<Shots>::crews;
  go(streamed<Shots>{shots, go.rounds(shots, crews)}, go.blocks(shots, crews));
}

/// What only some ranks take has nobody to say that cells are free again, so it does not stream: it
/// goes in parts that the areas hold, a turn each.
template <class T, int Peers, class Go>
void push_in_parts(pushed_copy<T, Peers> const& copy, Go const& go) {
  std::size_t part = copy.n;
  while (!go.fits(copy.part(0, part))) { part = part / 2 / per_packet<T> * per_packet<T>; }
  for (std::size_t first = 0; first < copy.n; first += part) {
    push_at_once(copy.part(first, std::min(part, copy.n - first)), go);
  }
}

}  // namespace detail
}  // namespace tpx
