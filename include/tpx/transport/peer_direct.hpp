// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>

#include <array>

namespace tpx {

/// Ranks store straight into each other's memory (on GPUs: over NVLink or PCIe peer access). Each
/// sender pushes, so that whoever waits looks at its own memory only.
struct PeerDirect {
  static constexpr bool shared = false;
  template <class Space>
  class memory;
};

/// Each rank makes its own window and maps the others'.
template <>
class PeerDirect::memory<Cpu> {
 public:
  memory(group& g, std::size_t bytes) {
    for (int r = 0; r < g.size(); ++r) {
      windows_[static_cast<std::size_t>(r)] = g.share(bytes, r);
    }
  }
  [[nodiscard]] static constexpr std::string_view transport() { return "PeerDirect"; }
  [[nodiscard]] std::byte* window(int rank) const {
    return windows_[static_cast<std::size_t>(rank)]->data();
  }

 private:
  std::array<std::shared_ptr<shared_memory>, max_ranks> windows_;
};

}  // namespace tpx
