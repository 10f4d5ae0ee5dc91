// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <exception>
#include <string>

namespace tpx::detail {

/// In a handler: what the exception says.
[[nodiscard]] inline std::string caught() {
  try {
    throw;
  } catch (std::exception const& e) { return e.what(); } catch (...) {
    return "what was thrown is no std::exception";
  }
}

}  // namespace tpx::detail
