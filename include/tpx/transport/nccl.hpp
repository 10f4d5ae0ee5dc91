// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/space.hpp>

#include <concepts>

namespace tpx {

/// A transport that is a collective library: instead of windows that tpx's protocols reach through,
/// it has collectives of its own, and no say in the topology.
template <class T>
concept collective_library = requires {
  { T::own_collectives } -> std::convertible_to<bool>;
  requires static_cast<bool>(T::own_collectives);
};

/// NCCL's own collectives, on the caller's ncclComm_t or on one of tpx's: the way out to several
/// hosts. Between GPUs only; the target tpx::nccl carries the library.
struct Nccl {
  static constexpr bool own_collectives = true;
};
static_assert(collective_library<Nccl>);

}  // namespace tpx
