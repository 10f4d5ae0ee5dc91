// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: no matching function for call to .*tpx::error::error
#include <tpx/error.hpp>

int main() {
  throw tpx::error{tpx::errc::io};
}
