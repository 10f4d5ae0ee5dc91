// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Times gather between GPUs: --help, benchmarks/README.md. Sizes are those of the root's output.
#include "harness.cuh"

namespace bench {

struct gather {
  static constexpr char const* name = "gather";
  static constexpr auto kind = result::copy_of_all;
  static constexpr bool rooted = true;
  static constexpr bool can_be_in_place = false;
  static constexpr bool has_epilogue = false;
  static constexpr bool nccl_symmetric = false;

  template <class T, class Comm>
  static void run(Comm& comm, call const& c) {
    tpx::gather(comm, c.in<T>(), c.out<T>(), c.s.root, c.stream);
  }
#if defined(TPX_BENCH_NCCL)
  template <class T>
  static ncclResult_t run_nccl(call const& c, ncclComm_t comm) {
#  if NCCL_VERSION_CODE >= 22800
    return ncclGather(c.x, c.y, c.s.in, nccl_type<T>, c.s.root, comm, c.stream);
#  else
    auto const type = nccl_type<T>;
    auto* const to = static_cast<T*>(c.y);
    ncclGroupStart();
    ncclSend(c.x, c.s.in, type, c.s.root, comm, c.stream);
    for (int r = 0; r < c.s.ranks && c.s.rank == c.s.root; ++r) {
      ncclRecv(to + static_cast<std::size_t>(r) * c.s.in, c.s.in, type, r, comm, c.stream);
    }
    return ncclGroupEnd();  // with what any of them returned
#  endif
  }
#endif
};

}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_bench<bench::gather>(argc, argv);
}
