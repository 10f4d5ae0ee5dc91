// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/config.hpp>
#include <tpx/error.hpp>

__global__ void write_rank(int* out) {
  *out = tpx::max_ranks;
}

int main() {
  try {
    tpx::expects(false, "a CUDA consumer project compiles, links and runs");
  } catch (tpx::error const& e) { return e.code() == tpx::errc::invalid_argument ? 0 : 1; }
  write_rank<<<1, 1>>>(nullptr);
  return 1;
}
