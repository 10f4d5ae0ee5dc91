// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Times the collectives of the Cpu space between thread ranks, the flags as nccl-tests has them:
//   collectives_bench [-b BYTES] [-e BYTES] [-f FACTOR] [-g RANKS] [-n ITERATIONS] [-w WARM-UP]
// A row a size: the median over iterations of the slowest rank's time, and each variant's ratio to
// the first. On a CPU only the ratios of one run mean anything to another machine.
#include <tpx/tpx.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace tpx;

struct settings {
  std::size_t begin = 1024;
  std::size_t end = std::size_t{4} << 20;
  int factor = 4;
  int ranks = 2;
  int iterations = 200;
  int warm_up = 20;
};

/// Median over iterations of the time from the first rank's start to the last rank's end, in us.
template <class Comm, class F>
double time_of(settings const& s, F f) {
  std::vector<std::vector<double>> took(static_cast<std::size_t>(s.ranks));
  run_ranks(s.ranks, [&](group& g) {
    Comm comm{g};
    auto& mine = took[static_cast<std::size_t>(g.rank())];
    for (int i = -s.warm_up; i < s.iterations; ++i) {
      barrier(comm);
      auto const begun = detail::now_ns();
      f(comm);
      if (i >= 0) { mine.push_back(static_cast<double>(detail::now_ns() - begun) / 1e3); }
    }
  });
  std::vector<double> slowest(static_cast<std::size_t>(s.iterations));
  for (std::size_t i = 0; i < slowest.size(); ++i) {
    for (auto const& rank : took) { slowest[i] = std::max(slowest[i], rank[i]); }
  }
  std::nth_element(slowest.begin(), slowest.begin() + s.iterations / 2, slowest.end());
  return slowest[slowest.size() / 2];
}

template <class Transport, class Topology>
double allreduce_time(settings const& s, std::size_t bytes) {
  return time_of<communicator<Transport, Topology, Cpu>>(
    s, [x = std::vector<float>(bytes / sizeof(float), 1.0f)](auto& comm) {
      // One array serves all ranks' inputs; each thread needs an output of its own.
      thread_local std::vector<float> y;
      y.resize(x.size());
      allreduce(comm, x, y);
    });
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{"Times tpx's collectives between thread ranks on the CPU"};
  app.add_option("-b", s.begin, "smallest message, bytes")->capture_default_str();
  app.add_option("-e", s.end, "largest message, bytes")->capture_default_str();
  app.add_option("-f", s.factor, "from size to size")->capture_default_str();
  app.add_option("-g", s.ranks, "ranks")->capture_default_str();
  app.add_option("-n", s.iterations, "iterations")->capture_default_str();
  app.add_option("-w", s.warm_up, "iterations before")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::printf("barrier, %d ranks: AllPairs %.2f us, Ring %.2f, Tree %.2f\n", s.ranks,
              time_of<communicator<HostPinned, AllPairs, Cpu>>(s, [](auto& c) { barrier(c); }),
              time_of<communicator<HostPinned, Ring, Cpu>>(s, [](auto& c) { barrier(c); }),
              time_of<communicator<HostPinned, Tree, Cpu>>(s, [](auto& c) { barrier(c); }));
  std::printf("allreduce of float32, us by HostPinned AllPairs, then as multiples of it\n");
  std::printf("%10s %10s %8s %8s %8s %8s %8s\n", "bytes", "us", "hp ring", "hp tree", "pd all",
              "pd ring", "pd tree");
  for (std::size_t bytes = s.begin; bytes <= s.end; bytes *= static_cast<std::size_t>(s.factor)) {
    double const base = allreduce_time<HostPinned, AllPairs>(s, bytes);
    std::printf("%10zu %10.2f %8.2f %8.2f %8.2f %8.2f %8.2f\n", bytes, base,
                allreduce_time<HostPinned, Ring>(s, bytes) / base,
                allreduce_time<HostPinned, Tree>(s, bytes) / base,
                allreduce_time<PeerDirect, AllPairs>(s, bytes) / base,
                allreduce_time<PeerDirect, Ring>(s, bytes) / base,
                allreduce_time<PeerDirect, Tree>(s, bytes) / base);
    std::fflush(stdout);
  }
}
