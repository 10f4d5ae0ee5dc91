// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: the second argument is a topology
#include <tpx/allreduce.hpp>

void f(tpx::group& g) {
  tpx::communicator<tpx::PeerDirect, tpx::HostPinned, tpx::Cpu> comm{g};
}
