// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>

namespace tpx {

/// A row of a batch that is sampled, and whose it is.
struct batch_row {
  float const* logits;
  std::uint32_t slot;

  friend bool operator==(batch_row const&, batch_row const&) = default;
};

}  // namespace tpx
