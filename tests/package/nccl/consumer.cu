// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/nccl.cuh>

using comm_t = tpx::communicator<tpx::Nccl>;

/// Never called, but compiled and linked.
void add(comm_t& comm, float* x, std::size_t n, cudaStream_t stream) {
  comm.allreduce({tpx::collective::allreduce}, x, x, n, tpx::Sum{}, tpx::no_epilogue{}, stream);
}

int main() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess && comm_t::bytes_needed(8) < 10'000'000 ? 0 : 1;
}
