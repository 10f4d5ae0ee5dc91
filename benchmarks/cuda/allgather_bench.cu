// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Times allgather between GPUs: --help, benchmarks/README.md. Sizes are those of the output.
#include "harness.cuh"

namespace bench {

struct allgather {
  static constexpr char const* name = "allgather";
  static constexpr auto kind = result::copy_of_all;
  static constexpr bool rooted = false;
  static constexpr bool can_be_in_place = true;
  static constexpr bool has_epilogue = false;
  static constexpr bool nccl_symmetric = true;

  template <class T, class Comm>
  static void run(Comm& comm, call const& c) {
    tpx::allgather(comm, c.in<T>(), c.out<T>(), c.stream);
  }
#if defined(TPX_BENCH_NCCL)
  template <class T>
  static ncclResult_t run_nccl(call const& c, ncclComm_t comm) {
    return ncclAllGather(c.x, c.y, c.s.in, nccl_type<T>, comm, c.stream);
  }
#endif
};

}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_bench<bench::allgather>(argc, argv);
}
