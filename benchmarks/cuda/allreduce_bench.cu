// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Times the all-reduce between GPUs: --help, benchmarks/README.md.
#include "harness.cuh"

namespace bench {

struct allreduce {
  static constexpr char const* name = "allreduce";
  static constexpr auto kind = result::sum;
  static constexpr bool rooted = false;
  static constexpr bool can_be_in_place = true;
  static constexpr bool has_epilogue = true;
  static constexpr bool nccl_symmetric = true;

  template <class T, class Comm, class Epilogue = tpx::no_epilogue>
  static void run(Comm& comm, call const& c, Epilogue epilogue = {}) {
    tpx::allreduce(comm, c.in<T>(), c.out<T>(), tpx::Sum{}, epilogue, c.stream);
  }
#if defined(TPX_BENCH_NCCL)
  template <class T>
  static ncclResult_t run_nccl(call const& c, ncclComm_t comm) {
    return ncclAllReduce(c.x, c.y, c.s.in, nccl_type<T>, ncclSum, comm, c.stream);
  }
#endif
};

}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_bench<bench::allreduce>(argc, argv);
}
