// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// An epilogue of one's own, fused into an all-reduce between all GPUs of this host: SiLU of the sum
// times a gate.
#include <tpx/cuda.cuh>
#include <tpx/run_ranks.hpp>

#include <cstdio>
#include <vector>

/// Applied to each reduced value, in fp32, before it is rounded and stored.
struct gated_silu {
  tpx::bfloat16 const* gate;  // (n), the same on every rank
  template <class A>
  TPX_HD A operator()(A sum, std::size_t i) const {
    return sum / (A{1} + exp(-sum)) * static_cast<A>(gate[i]);
  }
};

int main() {
  constexpr std::size_t n = 4096;
  int gpus = 0;
  cudaGetDeviceCount(&gpus);
  tpx::run_ranks(gpus, [](tpx::group& g) {
    cudaSetDevice(g.rank());
    tpx::communicator<tpx::PeerDirect> comm{g};
    tpx::bfloat16* x = nullptr;  // (2, n): values, gate
    cudaMalloc(&x, 2 * n * sizeof(tpx::bfloat16));
    std::vector<tpx::bfloat16> const ones(2 * n, tpx::bfloat16{1.0f});
    cudaMemcpy(x, ones.data(), 2 * n * sizeof(tpx::bfloat16), cudaMemcpyHostToDevice);

    tpx::allreduce(comm, std::span{x, n}, tpx::Sum{}, gated_silu{x + n});

    tpx::bfloat16 first;
    cudaMemcpy(&first, x, sizeof(first), cudaMemcpyDeviceToHost);
    comm.check();
    cudaFree(x);
    std::printf("rank %d of %d: %g\n", g.rank(), g.size(),
                static_cast<double>(static_cast<float>(first)));
  });
}
