// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>

namespace tpx {

/// Ranks meet in host memory that all of them reach (on GPUs: page-locked). Works everywhere. What
/// all others read is written once, and read where it lies.
struct HostPinned {
  static constexpr bool shared = true;
  template <class Space>
  class memory;
};

/// One region with all ranks' windows, made by rank 0.
template <>
class HostPinned::memory<Cpu> {
 public:
  memory(group& g, std::size_t bytes)
      : all_{g.share(bytes * static_cast<std::size_t>(g.size()))}, bytes_{bytes} {}
  [[nodiscard]] static constexpr std::string_view transport() { return "HostPinned"; }
  [[nodiscard]] std::byte* window(int rank) const {
    return all_->data() + bytes_ * static_cast<std::size_t>(rank);
  }

 private:
  std::shared_ptr<shared_memory> all_;
  std::size_t bytes_;
};

}  // namespace tpx
