// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// Times one collective of tpx, of NCCL and of exllamav2's kind on the same GPUs in one process.
///
/// A thread drives each GPU. K calls are captured in a graph on each; for each timed replay the
/// threads meet, then each enqueues event, graph, event. The time of a call is that between the
/// events over K, the slowest rank's; the rows' replays take turns. Each row's own graph then runs
/// on new inputs into a poisoned output, which is checked.
#include "rank_bench.cuh"

#include <tpx/run_ranks.hpp>

namespace bench {

/// What NCCL needs before the threads start; nothing where it is not built in.
#if defined(TPX_BENCH_NCCL)
using peers_start = nccl_start;
#else
struct peers_start {
  explicit peers_start(options const& o) {
    if (o.peers) {
      throw tpx::error{tpx::errc::unsupported,
                       "--peers: this program was built without NCCL",
                       {.remedy = "compile with -DTPX_BENCH_NCCL and -lnccl"}};
    }
  }
};
#endif

template <class Collective, class T>
void refuse_the_impossible(options const& o) {
  tpx::expects(has_everything<T> || (o.topology == "auto" && o.epilogue == "none"),
               "--topology and --epilogue are built for bfloat16 alone",
               "compile with -DTPX_BENCH_FULL");
  tpx::expects(Collective::has_epilogue || (o.epilogue == "none" && o.baseline.empty()),
               std::string{Collective::name} + " has no --epilogue and no --baseline");
  tpx::expects(!o.in_place || (Collective::can_be_in_place && o.baseline.empty()),
               std::string{Collective::name} + (o.baseline.empty() ? "" : " by exllamav2's chain") +
                 " cannot be in place");
  tpx::expects(o.root >= 0 && o.root < o.ranks, "--root is no rank");
}

template <class Collective, class T>
int run_typed(options o) {
  int devices = 0;
  check_cuda(cudaGetDeviceCount(&devices), "looking for GPUs");
  tpx::expects(devices > 0, "there is no GPU");
  if (o.ranks == 0) { o.ranks = devices; }
  refuse_the_impossible<Collective, T>(o);
  if (o.ranks > devices) {
    std::fprintf(stderr, "%d ranks share %d GPU(s): the times mean nothing, and NCCL is left out\n",
                 o.ranks, devices);
    o.peers = false;
  }
  peers_start const start{o};
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "asking for the GPU's name");
  report out{o,
             Collective::name,
             {{"transport", o.transport},
              {"topology", o.topology},
              {"dtype", Collective::kind == result::nothing ? "-" : o.dtype},
              {"ranks", std::to_string(o.ranks)},
              {"mode", o.eager ? "eager" : "graph"},
              {"in_place", o.in_place || Collective::kind == result::copy_of_root ? "yes" : "no"},
              {"offset", std::to_string(o.offset)},
              {"gpu", properties.name}}};
  meeting m{o.ranks};
  tpx::run_ranks(o.ranks, [&](tpx::group& g) {
    tpx::expects(!g.processes(), "the ranks of this program are its threads",
                 "start it without a launcher");
    rank_bench<Collective, T>{g, o, m, start, devices}.run(out);
  });
  return out.finish() ? 0 : 1;
}

/// The whole program.
template <class Collective>
int run_bench(int argc, char** argv) {
  try {
    options o;
    if (!parse(argc, argv, o)) {
      std::printf("Times %s between GPUs.\n%.*s", Collective::name, static_cast<int>(usage.size()),
                  usage.data());
      return 0;
    }
    if constexpr (Collective::kind == result::nothing) {
      return run_typed<Collective, std::int8_t>(o);
    } else {
      if (o.dtype == "bfloat16") { return run_typed<Collective, tpx::bfloat16>(o); }
      if (o.dtype == "half") { return run_typed<Collective, tpx::float16>(o); }
      if (o.dtype == "float") { return run_typed<Collective, float>(o); }
      if (o.dtype == "double") { return run_typed<Collective, double>(o); }
      if (o.dtype == "int32") { return run_typed<Collective, std::int32_t>(o); }
      return run_typed<Collective, std::int8_t>(o);
    }
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s: %s\n", Collective::name, e.what());
    return 1;
  }
}

}  // namespace bench
