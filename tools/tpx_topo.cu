// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// tpx-topo: which GPUs this machine has, how they are linked, and what the links are worth.
#include <tpx/cuda/peer_verdict.cuh>
#include <tpx/run_ranks.hpp>
#include <tpx/version.hpp>

#include <cuda/atomic>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace {

using tpx::max_ranks;
using tpx::p2p_verdict;
using tpx::detail::cuda_check;

constexpr char const* help = R"(tpx-topo [--quick]

Prints the GPUs of this machine, how each reaches the memory of the others, and what that is worth.

  link      CUDA's word: P<performance rank>, A if the link has native atomics, - no peer access
  verdict   tpx's: whether a pattern that was stored there arrived and was read back
  GB/s      the row's GPU storing into the column's memory, 16 bytes a thread; diagonal: its own
  one-way   microseconds from a store of the row's GPU to the column's seeing it

  --quick   no measurements
  --help    this

CUDA_VISIBLE_DEVICES chooses GPUs. TPX_P2P_DISABLE=1 and TPX_P2P_VETO=0-1,2-3 forbid pairs, which
are then not touched.
)";

/// A GPU stores `bytes` into a window, 16 at a time.
__global__ void store(uint4* to, std::size_t count, unsigned value) {
  std::size_t const stride = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    to[i] = make_uint4(value, value, value, value);
  }
}

/// Two GPUs pass a count to and fro, `rounds` times: each waits on its own word, and stores into
/// the other's. Ends after `limit_ns` whatever happens. `took`: nanoseconds of all rounds, 0 if the
/// limit ended it.
__global__ void ping(std::uint64_t* here, std::uint64_t* there, bool first, unsigned rounds,
                     std::uint64_t limit_ns, std::uint64_t* took) {
  using word = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>;
  auto const now = [] {
    std::uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
  };
  auto const begun = now();
  auto measured_from = begun;
  *took = 0;
  for (unsigned i = 1; i <= rounds; ++i) {
    if (first) { word{*there}.store(i, cuda::memory_order_relaxed); }
    for (unsigned polls = 1; word{*here}.load(cuda::memory_order_relaxed) < i; ++polls) {
      if (polls % 64 == 0 && now() - begun > limit_ns) { return; }
    }
    if (!first) { word{*there}.store(i, cuda::memory_order_relaxed); }
    if (i == rounds / 2) { measured_from = now(); }  // the other kernel may have started late
  }
  *took = now() - measured_from;
}

struct gpu {
  std::string name = {};
  std::string id = {};  // as nvidia-smi -L has it
  std::string pci = {};
  double gib = 0;
  int major = 0;
  int minor = 0;
  int sms = 0;
  int numa = -1;
};

struct findings {
  int n = 0;
  std::vector<gpu> gpus;
  tpx::p2p_matrix verdicts;
  double gbps[max_ranks][max_ranks] = {};
  double one_way_us[max_ranks][max_ranks] = {};
};

gpu describe(int device) {
  cudaDeviceProp properties{};
  cuda_check(cudaGetDeviceProperties(&properties, device), "asking for a GPU's properties");
  gpu g{.name = properties.name,
        .gib = static_cast<double>(properties.totalGlobalMem) / (1 << 30),
        .major = properties.major,
        .minor = properties.minor,
        .sms = properties.multiProcessorCount};
  char pci[32] = {};
  cuda_check(cudaDeviceGetPCIBusId(pci, sizeof(pci), device), "asking for a GPU's PCI address");
  g.pci = pci;
  if (cudaDeviceGetAttribute(&g.numa, cudaDevAttrHostNumaId, device) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    g.numa = -1;
  }
  return g;
}

/// Measures between one rank's GPU and the others, which wait meanwhile.
class bench {
 public:
  bench(tpx::group& g, tpx::detail::peer_windows const& windows) : g_{g}, windows_{windows} {
    cudaFuncAttributes a{};  // both kernels are loaded before one waits
    cuda_check(cudaFuncGetAttributes(&a, store), "loading a kernel");
    cuda_check(cudaFuncGetAttributes(&a, ping), "loading a kernel");
    for (auto& e : events_) { cuda_check(cudaEventCreate(&e), "creating an event"); }
  }
  bench(bench&&) = delete;
  ~bench() {
    for (auto e : events_) { static_cast<void>(cudaEventDestroy(e)); }
  }

  static constexpr std::size_t data_bytes = std::size_t{64} << 20;
  static constexpr std::size_t bytes = data_bytes + std::size_t{256} * (2 * max_ranks + 1);

  /// GB/s of this GPU's stores into the memory of rank `to`; the best of three.
  [[nodiscard]] double store_rate(int to) {
    float best = 0;
    for (int i = 0; i < 4; ++i) {
      cuda_check(cudaEventRecord(events_[0], stream_.get()), "timing stores");
      auto* const target = reinterpret_cast<uint4*>(windows_.window(to));
      store<<<256, 512, 0, stream_.get()>>>(target, data_bytes / sizeof(uint4), 1u);
      cuda_check(cudaGetLastError(), "storing to a peer");
      cuda_check(cudaEventRecord(events_[1], stream_.get()), "timing stores");
      wait();
      float ms = 0;
      cuda_check(cudaEventElapsedTime(&ms, events_[0], events_[1]), "timing stores");
      if (i > 0 && (best == 0 || ms < best)) { best = ms; }
    }
    return best > 0 ? static_cast<double>(data_bytes) / 1e6 / static_cast<double>(best) : 0;
  }

  /// Microseconds one way between this GPU and rank `peer`, whose rank calls it too. Flags of each
  /// pair lie apart, and are used once.
  [[nodiscard]] double latency(int peer, bool first) {
    constexpr unsigned rounds = 2000;
    auto* const here = flag(windows_.window(g_.rank()), peer);
    auto* const there = flag(windows_.window(peer), g_.rank());
    auto* const took = flag(windows_.window(g_.rank()), 2 * max_ranks);
    ping<<<1, 1, 0, stream_.get()>>>(here, there, first, rounds, 500'000'000, took);
    cuda_check(cudaGetLastError(), "passing a count to and fro");
    wait();
    std::uint64_t ns = 0;
    cuda_check(cudaMemcpyAsync(&ns, took, sizeof(ns), cudaMemcpyDeviceToHost, stream_.get()),
               "fetching a time");
    wait();
    return static_cast<double>(ns) / 1e3 / (2.0 * (rounds - rounds / 2));
  }

 private:
  static std::uint64_t* flag(std::byte* window, int i) {
    return reinterpret_cast<std::uint64_t*>(window + data_bytes +
                                            std::size_t{256} * static_cast<unsigned>(i));
  }
  void wait() const {
    auto const limit = static_cast<std::uint64_t>(g_.me().deadline.count()) / 2;
    if (!stream_.finish(tpx::detail::now_ns() + limit, "measuring a link")) {
      throw tpx::error{tpx::errc::timeout, "a GPU did not finish a measurement"};
    }
  }

  tpx::group& g_;
  tpx::detail::peer_windows const& windows_;
  tpx::detail::private_stream stream_;
  cudaEvent_t events_[2] = {};
};

void explore(tpx::group& g, findings& f, bool quick) {
  int const me = g.rank();
  cuda_check(cudaSetDevice(me), "using device " + std::to_string(me));
  tpx::detail::peer_windows windows{g, quick ? 0 : bench::bytes, tpx::detail::vetoes_of(g)};
  auto const verdicts = tpx::detail::try_out(g, windows);
  if (me == 0) {
    f.verdicts = verdicts;
    for (int r = 0; r < g.size(); ++r) {
      f.gpus[static_cast<std::size_t>(r)].id = windows.gpus().name(r);
    }
  }
  if (quick) { return; }
  auto const good = [&](int a, int b) { return verdicts.of(a, b) == p2p_verdict::good; };
  bench b{g, windows};
  for (int from = 0; from < g.size(); ++from) {
    for (int to = 0; to < g.size(); ++to) {
      if (from == me && good(from, to)) { f.gbps[from][to] = b.store_rate(to); }
      g.exchange(0);  // one pair at a time
      if (from >= to || !good(from, to) || !good(to, from)) { continue; }
      if (me == from || me == to) {
        auto const us = b.latency(me == from ? to : from, me == from);
        f.one_way_us[me][me == from ? to : from] = us;
      }
      g.exchange(0);
    }
  }
}

/// A matrix with a row and a column for each GPU.
template <class Cell>
void print(std::string const& title, int n, Cell cell) {
  std::size_t width = 5;
  for (int a = 0; a < n; ++a) {
    for (int b = 0; b < n; ++b) { width = std::max(width, cell(a, b).size()); }
  }
  int const w = static_cast<int>(width) + 2;
  std::printf("\n%-8s", title.c_str());
  for (int b = 0; b < n; ++b) { std::printf("%*d", w, b); }
  for (int a = 0; a < n; ++a) {
    std::printf("\n%8d", a);
    for (int b = 0; b < n; ++b) { std::printf("%*s", w, cell(a, b).c_str()); }
  }
  std::printf("\n");
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof(text), v < 10 ? "%.2f" : "%.0f", v);
  return v > 0 ? text : "-";
}

std::string link(int a, int b) {
  if (a == b) { return "self"; }
  auto const ask = [&](cudaDeviceP2PAttr what) {
    int value = 0;
    cuda_check(cudaDeviceGetP2PAttribute(&value, what, a, b), "asking about a link");
    return value;
  };
  if (ask(cudaDevP2PAttrAccessSupported) == 0) { return "-"; }
  return 'P' + std::to_string(ask(cudaDevP2PAttrPerformanceRank)) +
         (ask(cudaDevP2PAttrNativeAtomicSupported) != 0 ? "A" : "");
}

int run(bool quick) {
  tpx::expects(!tpx::launched(), "a launcher started this process as one rank",
               "start tpx-topo by itself: it is one process for all GPUs");
  findings f;
  cuda_check(cudaGetDeviceCount(&f.n), "counting GPUs");
  if (f.n > max_ranks) {
    std::printf("%d GPUs, of which the first %d are shown\n", f.n, max_ranks);
    f.n = max_ranks;
  }
  int driver = 0;
  int runtime = 0;
  cuda_check(cudaDriverGetVersion(&driver), "asking for the driver's version");
  cuda_check(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version");
  for (int d = 0; d < f.n; ++d) { f.gpus.push_back(describe(d)); }
  tpx::run_ranks(f.n, [&](tpx::group& g) { explore(g, f, quick); });

  std::printf("tpx %d.%d.%d, CUDA driver %d.%d, runtime %d.%d\n", TPX_VERSION_MAJOR,
              TPX_VERSION_MINOR, TPX_VERSION_PATCH, driver / 1000, driver % 1000 / 10,
              runtime / 1000, runtime % 1000 / 10);
  for (int d = 0; d < f.n; ++d) {
    auto const& g = f.gpus[static_cast<std::size_t>(d)];
    std::printf("%2d  %s  %.1f GiB  sm_%d%d  %d SMs  PCI %s  NUMA %s  %s\n", d, g.name.c_str(),
                g.gib, g.major, g.minor, g.sms, g.pci.c_str(),
                g.numa < 0 ? "-" : std::to_string(g.numa).c_str(), g.id.c_str());
  }
  print("link", f.n, link);
  print("verdict", f.n, [&](int a, int b) { return std::string{tpx::name(f.verdicts.of(a, b))}; });
  if (!quick) {
    print("GB/s", f.n, [&](int a, int b) { return number(f.gbps[a][b]); });
    print("one-way", f.n,
          [&](int a, int b) { return a == b ? "self" : number(f.one_way_us[a][b]); });
  }
  std::printf("\nPeerDirect: %s\n",
              f.verdicts.all_good() ? "works between all" : f.verdicts.story().c_str());
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  bool quick = false;
  for (int i = 1; i < count; ++i) {
    std::string_view const word = arguments[i];
    if (word == "--help" || word == "-h") {
      std::fputs(help, stdout);
      return 0;
    }
    if (word != "--quick") {
      std::fprintf(stderr, "tpx-topo: %s is not an option\n\n%s", arguments[i], help);
      return 2;
    }
    quick = true;
  }
  try {
    return run(quick);
  } catch (std::exception const& e) {
    std::fprintf(stderr, "tpx-topo: %s\n", e.what());
    return 1;
  }
}
