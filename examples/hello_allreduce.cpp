// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/allreduce.hpp>
#include <tpx/run_ranks.hpp>

#include <cstdio>
#include <vector>

int main() {
  tpx::run_ranks(4, [](tpx::group& g) {  // 4 threads, or under a launcher 4 processes
    tpx::communicator<tpx::HostPinned, tpx::Auto, tpx::Cpu> comm{g};
    std::vector<float> x(1000, static_cast<float>(g.rank()));  // (n)
    tpx::allreduce(comm, x);                                   // 0 + 1 + 2 + 3, on every rank
    if (g.rank() == 0) { std::printf("%g\n", x[999]); }        // 6
  });
}
