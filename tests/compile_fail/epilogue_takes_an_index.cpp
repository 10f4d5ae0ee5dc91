// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: an epilogue is a trivially copyable .value, index. -> value
#include <tpx/allreduce.hpp>

struct no_index {
  TPX_HD float operator()(float a) const { return a; }
};

void f(tpx::communicator<tpx::HostPinned, tpx::Ring, tpx::Cpu>& comm, std::span<float> x) {
  tpx::allreduce(comm, x, x, tpx::Sum{}, no_index{});
}
