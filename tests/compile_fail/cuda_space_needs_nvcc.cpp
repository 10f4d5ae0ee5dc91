// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: the Cuda space needs nvcc
#include <tpx/allreduce.hpp>

void f(tpx::group& g) {
  tpx::communicator<tpx::PeerDirect> comm{g};
}
