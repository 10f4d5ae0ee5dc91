// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Shows that a failure beside this file is not one of the compiler's set-up.
// expect: success
#include <tpx/error.hpp>

int main() {
  tpx::expects(true, "nothing");
}
