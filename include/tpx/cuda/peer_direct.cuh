// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/peer_verdict.cuh>
#include <tpx/transport/peer_direct.hpp>

namespace tpx {

/// Each rank makes its own window in the memory of its GPU, the current device, and maps the
/// others'. Nothing may use it any more when it ends.
///
/// All ranks pass the same `bytes`. Errors, the same on every rank and the group goes on:
/// unsupported if any two ranks' GPUs do not reach each other's memory, as probe_peers() finds it;
/// two ranks on one GPU. Errors that end the group: out_of_memory and cuda, naming the rank.
template <>
class PeerDirect::memory<Cuda> {
 public:
  memory(group& g, std::size_t bytes) : windows_{g, bytes, detail::vetoes_of(g)} {
    auto const found = detail::try_out(g, windows_);
    if (!found.all_good()) {
      throw error{errc::unsupported,
                  found.story(),
                  {.rank = g.rank(),
                   .peer = found.bad().second,
                   .remedy = "use the HostPinned transport; tpx-topo shows all pairs"}};
    }
  }

  [[nodiscard]] static constexpr std::string_view transport() { return "PeerDirect"; }
  [[nodiscard]] static constexpr bool on_host() { return false; }
  [[nodiscard]] std::byte* window(int rank) const { return windows_.window(rank); }

 private:
  detail::peer_windows windows_;
};

}  // namespace tpx
