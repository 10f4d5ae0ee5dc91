// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: an operation that is not commutative needs AllPairs or Auto
#include <tpx/allreduce.hpp>

struct first {
  static constexpr bool commutative = false;
  TPX_HD float operator()(float a, float) const { return a; }
};

void f(tpx::communicator<tpx::HostPinned, tpx::Ring, tpx::Cpu>& comm, std::span<float> x) {
  tpx::allreduce(comm, x, first{});
}
