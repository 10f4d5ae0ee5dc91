// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Times broadcast between GPUs: --help, benchmarks/README.md.
#include "harness.cuh"

namespace bench {

struct broadcast {
  static constexpr char const* name = "broadcast";
  static constexpr auto kind = result::copy_of_root;
  static constexpr bool rooted = true;
  static constexpr bool can_be_in_place = true;
  static constexpr bool has_epilogue = false;
  static constexpr bool nccl_symmetric = false;

  template <class T, class Comm>
  static void run(Comm& comm, call const& c) {
    tpx::broadcast(comm, c.out<T>(), c.s.root, c.stream);
  }
#if defined(TPX_BENCH_NCCL)
  template <class T>
  static ncclResult_t run_nccl(call const& c, ncclComm_t comm) {
    return ncclBroadcast(c.x, c.y, c.s.out, nccl_type<T>, c.s.root, comm, c.stream);
  }
#endif
};

}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_bench<bench::broadcast>(argc, argv);
}
