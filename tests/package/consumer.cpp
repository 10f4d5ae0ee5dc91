// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/error.hpp>

int main() {
  try {
    tpx::expects(false, "a consumer project compiles, links and runs");
  } catch (tpx::error const& e) { return e.code() == tpx::errc::invalid_argument ? 0 : 1; }
  return 1;
}
