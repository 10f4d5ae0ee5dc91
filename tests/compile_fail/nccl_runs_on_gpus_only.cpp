// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// expect: Nccl moves data between GPUs only
#include <tpx/allreduce.hpp>

void f(tpx::group& g) {
  tpx::communicator<tpx::Nccl, tpx::Ring, tpx::Cpu> comm{g};
}
