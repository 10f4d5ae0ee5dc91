// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Times the barrier between GPUs: --help, benchmarks/README.md. NCCL has none: its users all-reduce
// one element.
#include "harness.cuh"

namespace bench {

struct barrier {
  static constexpr char const* name = "barrier";
  static constexpr auto kind = result::nothing;
  static constexpr bool rooted = false;
  static constexpr bool can_be_in_place = false;
  static constexpr bool has_epilogue = false;
  static constexpr bool nccl_symmetric = true;

  template <class, class Comm>
  static void run(Comm& comm, call const& c) {
    tpx::barrier(comm, c.stream);
  }
#if defined(TPX_BENCH_NCCL)
  template <class>
  static ncclResult_t run_nccl(call const& c, ncclComm_t comm) {
    return ncclAllReduce(c.x, c.y, 1, ncclFloat32, ncclSum, comm, c.stream);
  }
#endif
};

}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_bench<bench::barrier>(argc, argv);
}
