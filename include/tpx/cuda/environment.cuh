// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdlib>
#include <string_view>

namespace tpx::detail {

/// Whether a variable of the environment is set, and to something else than "" and "0".
[[nodiscard]] inline bool switched_on(char const* variable) {
  char const* const value = std::getenv(variable);
  std::string_view const text = value == nullptr ? "" : value;
  return !text.empty() && text != "0";
}

}  // namespace tpx::detail
