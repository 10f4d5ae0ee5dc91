// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/host_pinned.cuh>
#include <tpx/cuda/peer_direct.cuh>
#include <tpx/log.hpp>
#include <tpx/transport/auto.hpp>

#include <optional>

namespace tpx {

/// The windows of PeerDirect, or of HostPinned where any two ranks' GPUs do not reach each other's
/// memory: every rank comes to the same. Errors: those of either.
template <>
class Auto::memory<Cuda> {
 public:
  memory(group& g, std::size_t bytes) {
    try {
      peers_.emplace(g, bytes);
    } catch (error const& e) {
      if (e.code() != errc::unsupported) { throw; }  // of which every rank hears, and goes on
      log(log_level::info, g.rank(),
          [&] { return std::string{"HostPinned instead of PeerDirect: "} + e.what(); });
      host_.emplace(g, bytes);
    }
  }

  [[nodiscard]] std::byte* window(int rank) const {
    return peers_ ? peers_->window(rank) : host_->window(rank);
  }
  [[nodiscard]] std::string_view transport() const {
    return peers_ ? peers_->transport() : host_->transport();
  }
  [[nodiscard]] bool on_host() const { return !peers_; }

 private:
  std::optional<PeerDirect::memory<Cuda>> peers_;
  std::optional<HostPinned::memory<Cuda>> host_;
};

}  // namespace tpx
