// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: an operation is a trivially copyable .value, value. -> value
#include <tpx/reduce_scatter.hpp>

struct one_argument {
  TPX_HD float operator()(float a) const { return a; }
};

void f(tpx::communicator<tpx::HostPinned, tpx::Ring, tpx::Cpu>& comm, std::span<float> x) {
  tpx::reduce_scatter(comm, x, x, one_argument{});
}
