// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Times reduce_scatter between GPUs: --help, benchmarks/README.md. Sizes are those of the input.
#include "harness.cuh"

namespace bench {

struct reduce_scatter {
  static constexpr char const* name = "reduce_scatter";
  static constexpr auto kind = result::own_sum;
  static constexpr bool rooted = false;
  static constexpr bool can_be_in_place = true;
  static constexpr bool has_epilogue = false;
  static constexpr bool nccl_symmetric = true;

  template <class T, class Comm>
  static void run(Comm& comm, call const& c) {
    tpx::reduce_scatter(comm, c.in<T>(), c.out<T>(), tpx::Sum{}, tpx::no_epilogue{}, c.stream);
  }
#if defined(TPX_BENCH_NCCL)
  template <class T>
  static ncclResult_t run_nccl(call const& c, ncclComm_t comm) {
    return ncclReduceScatter(c.x, c.y, c.s.out, nccl_type<T>, ncclSum, comm, c.stream);
  }
#endif
};

}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_bench<bench::reduce_scatter>(argc, argv);
}
