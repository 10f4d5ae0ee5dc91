// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The memory of the Cuda space: windows that all ranks reach, what becomes of them when something
// fails, and the verdicts on peer access. With as many GPUs as there are, shared by ranks if need
// be.
#define PROCESS_PROGRAM "/proc/self/exe"
#include "process_support.hpp"

#include <tpx/cuda/host_pinned.cuh>
#include <tpx/cuda/peer_direct.cuh>
#include <tpx/run_ranks.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstring>

namespace {

using namespace std::chrono_literals;
using tpx::errc;
using tpx::group;
using tpx::HostPinned;
using tpx::max_ranks;
using tpx::p2p_verdict;
using tpx::PeerDirect;
using tpx::detail::cuda_check;

using peer_memory = PeerDirect::memory<tpx::Cuda>;
using host_memory = HostPinned::memory<tpx::Cuda>;

int gpu_count() {
  static int const count = [] {
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
  }();
  return count;
}

/// Sets a variable of the environment while it lives.
class variable {
 public:
  variable(char const* name, char const* value) : name_{name} { ::setenv(name, value, 1); }
  variable(variable&&) = delete;
  ~variable() { ::unsetenv(name_); }

 private:
  char const* name_;
};

/// What each rank notes, for the test's thread to look at: Catch2's assertions belong to it.
class notes {
 public:
  void add(int rank, std::string const& note) { all_[static_cast<std::size_t>(rank)] += note; }
  [[nodiscard]] std::string const& of(int rank) const {
    return all_[static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] std::string all() const {
    std::string text;
    for (int r = 0; r < max_ranks; ++r) {
      if (!of(r).empty()) { text += "rank " + std::to_string(r) + ": " + of(r) + '\n'; }
    }
    return text;
  }

 private:
  std::array<std::string, max_ranks> all_;
};

template <class F>
void on_gpus(int n, F body, std::chrono::milliseconds deadline = 30s) {
  auto const with_device = [&](group& g) {
    cuda_check(cudaSetDevice(g.rank() % gpu_count()), "choosing a device");
    body(g);
  };
  tpx::detail::run_threads(n, with_device, {.deadline = deadline});
}

/// On every rank the error that `body` throws there, or "". Who throws has not ended the run.
template <class F>
notes errors_of(int n, F body, std::chrono::milliseconds deadline = 30s) {
  notes found;
  on_gpus(
    n,
    [&](group& g) {
      try {
        body(g);
      } catch (tpx::error const& e) {
        found.add(g.rank(), std::string{tpx::name(e.code())} + ' ' + std::to_string(e.peer()) +
                              ' ' + e.what());
      }
    },
    deadline);
  return found;
}

__host__ __device__ unsigned value_of(int writer, int window, std::size_t i) {
  return static_cast<unsigned>(writer * 1000003 + window * 10007) + static_cast<unsigned>(i) * 7u +
         1u;
}

/// Writer w's part of a window: `words` words from word w * words on.
__global__ void fill(unsigned* window, int writer, int owner, std::size_t words) {
  for (std::size_t i = threadIdx.x; i < words; i += blockDim.x) {
    window[static_cast<std::size_t>(writer) * words + i] = value_of(writer, owner, i);
  }
}

/// Counts words of a window that are not what all `writers` wrote (0: not zero).
__global__ void count_wrong(unsigned const* window, int writers, int owner, std::size_t words,
                            std::size_t all, unsigned* wrong) {
  for (std::size_t i = threadIdx.x; i < all; i += blockDim.x) {
    auto const writer = static_cast<int>(i / words);
    unsigned const wanted = writer < writers ? value_of(writer, owner, i % words) : 0;
    if (window[i] != wanted) { atomicAdd(wrong, 1u); }
  }
}

unsigned wrong_words(std::byte* window, int writers, int owner, std::size_t words,
                     std::size_t bytes) {
  unsigned* wrong = nullptr;
  cuda_check(cudaMalloc(reinterpret_cast<void**>(&wrong), sizeof(*wrong)), "allocating");
  cuda_check(cudaMemset(wrong, 0, sizeof(*wrong)), "clearing");
  count_wrong<<<1, 256>>>(reinterpret_cast<unsigned const*>(window), writers, owner, words,
                          bytes / sizeof(unsigned), wrong);
  cuda_check(cudaGetLastError(), "counting");
  unsigned found = 0;
  cuda_check(cudaMemcpy(&found, wrong, sizeof(found), cudaMemcpyDeviceToHost), "fetching");
  cuda_check(cudaFree(wrong), "freeing");
  return found;
}

/// Every rank writes its part of every window and reads all parts of all. "" if all is right.
template <class Memory>
std::string exercise(group& g, std::size_t bytes) {
  Memory const memory{g, bytes};
  auto const words = bytes / sizeof(unsigned) / max_ranks;
  std::string found;
  if (auto const n = wrong_words(memory.window(g.rank()), 0, g.rank(), words, bytes); n != 0) {
    found += std::to_string(n) + " words are not zero at the start; ";
  }
  g.exchange(1);
  for (int r = 0; r < g.size(); ++r) {
    fill<<<1, 256>>>(reinterpret_cast<unsigned*>(memory.window(r)), g.rank(), r, words);
  }
  cuda_check(cudaDeviceSynchronize(), "filling windows");
  g.exchange(2);
  for (int r = 0; r < g.size(); ++r) {
    if (auto const n = wrong_words(memory.window(r), g.size(), r, words, bytes); n != 0) {
      found +=
        std::to_string(n) + " words are wrong in the window of rank " + std::to_string(r) + "; ";
    }
  }
  cuda_check(cudaDeviceSynchronize(), "reading windows");
  g.exchange(3);
  return found;
}

template <class Memory>
std::string exercise_on(int n, std::size_t bytes) {
  notes found;
  on_gpus(n, [&](group& g) { found.add(g.rank(), exercise<Memory>(g, bytes)); });
  return found.all();
}

/// World sizes that are worth a test here.
std::vector<int> sizes() {
  std::vector<int> all{1, 2, 3, 8};
  if (gpu_count() > 1) { all.push_back(gpu_count()); }
  return all;
}

constexpr std::size_t odd_bytes = (std::size_t{3} << 20) + 4160;

long descriptors() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator{"/proc/self/fd"}, fs::directory_iterator{});
}

}  // namespace

#define NEED_GPU() \
  if (gpu_count() == 0) { SKIP("no GPU"); }

TEST_CASE("what ranks store into windows of GPU memory is there on all ranks", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  for (int n : sizes()) { CHECK(exercise_on<peer_memory>(n, odd_bytes) == ""); }
}

TEST_CASE("windows of GPU memory need no virtual memory management between threads", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  variable const plain{"TPX_VMM_DISABLE", "1"};
  for (int n : sizes()) { CHECK(exercise_on<peer_memory>(n, odd_bytes) == ""); }
}

TEST_CASE("what ranks store into windows of page-locked memory is there on all ranks", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  for (int n : sizes()) { CHECK(exercise_on<host_memory>(n, odd_bytes) == ""); }
}

TEST_CASE("the CPU and all GPUs see the same page-locked memory", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  notes found;
  on_gpus(3, [&](group& g) {
    host_memory const memory{g, 4096};
    fill<<<1, 32>>>(reinterpret_cast<unsigned*>(memory.window(2)), g.rank(), 2, 64);
    cuda_check(cudaDeviceSynchronize(), "filling");
    g.exchange(1);
    for (int writer = 0; writer < 3; ++writer) {
      for (std::size_t i = 0; i < 64; ++i) {
        unsigned word = 0;
        std::memcpy(&word, memory.host_window(2) + (static_cast<std::size_t>(writer) * 64 + i) * 4,
                    4);
        if (word != value_of(writer, 2, i)) { found.add(g.rank(), "wrong"); }
      }
    }
    g.exchange(2);
  });
  CHECK(found.all() == "");
}

TEST_CASE("two ranks on one GPU are refused on every rank", "[cuda]") {
  NEED_GPU();
  int const n = gpu_count() + 1;
  if (n > max_ranks) { SKIP("as many GPUs as ranks"); }
  auto found = errors_of(n, [](group& g) { peer_memory const memory{g, 4096}; });
  auto host = errors_of(n, [](group& g) { host_memory const memory{g, 4096}; });
  std::string const peer = std::to_string(n - 1);
  for (int r = 0; r < n; ++r) {
    for (std::string const& text : {found.of(r), host.of(r)}) {
      INFO(text);
      CHECK(text.starts_with("invalid_argument " + peer + ' '));
      CHECK(text.find("ranks 0 and " + peer + " use the same GPU, GPU-") != text.npos);
    }
  }
}

TEST_CASE("without a veto all GPUs that CUDA joins get a good verdict", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  for (int n : sizes()) {
    notes found;
    on_gpus(n, [&](group& g) {
      auto const matrix = tpx::probe_peers(g);
      if (matrix.ranks != n) { found.add(g.rank(), "ranks"); }
      for (int a = 0; a < n; ++a) {
        for (int b = 0; b < n; ++b) {
          int joined = a % gpu_count() == b % gpu_count() ? 1 : 0;
          if (joined == 0) {
            cuda_check(cudaDeviceCanAccessPeer(&joined, a % gpu_count(), b % gpu_count()),
                       "asking");
          }
          auto const wanted = joined != 0 ? p2p_verdict::good : p2p_verdict::no_access;
          if (matrix.of(a, b) != wanted) {
            found.add(g.rank(), std::to_string(a) + "-" + std::to_string(b) + ' ' +
                                  std::string{tpx::name(matrix.of(a, b))} + "; ");
          }
        }
      }
    });
    CHECK(found.all() == "");
  }
}

TEST_CASE("a veto on any rank gives every rank the same matrix and the same error", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  variable const veto{"TPX_P2P_VETO", "2-0,11-15"};
  constexpr int n = 3;
  notes matrices;
  notes failures;
  on_gpus(n, [&](group& g) {
    auto const matrix = tpx::probe_peers(g);
    for (int a = 0; a < n; ++a) {
      for (int b = 0; b < n; ++b) {
        matrices.add(g.rank(), matrix.of(a, b) == p2p_verdict::vetoed ? "v" : ".");
      }
    }
    try {
      peer_memory const memory{g, 4096};
    } catch (tpx::error const& e) {
      failures.add(g.rank(), std::string{tpx::name(e.code())} + ' ' + std::to_string(e.peer()));
    }
    g.agree(7);  // the group goes on
    auto const after = exercise<host_memory>(g, odd_bytes);
    if (!after.empty()) { failures.add(g.rank(), after); }
  });
  for (int r = 0; r < n; ++r) {
    CHECK(matrices.of(r) == "..v...v..");
    CHECK(failures.of(r) == "unsupported 2");
  }
}

TEST_CASE("TPX_P2P_DISABLE=1 forbids all pairs of ranks, and peers_ok says so", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  auto const ask = [](char const* disable) {
    variable const off{"TPX_P2P_DISABLE", disable};
    notes found;
    on_gpus(2, [&](group& g) { found.add(g.rank(), tpx::peers_ok(g) ? "ok" : "no"); });
    return found.of(0) + found.of(1);
  };
  CHECK(ask("1") == "nono");
  int joined = 1;
  if (gpu_count() > 1) { cuda_check(cudaDeviceCanAccessPeer(&joined, 0, 1), "asking"); }
  CHECK(ask("0") == (joined != 0 ? "okok" : "nono"));
}

TEST_CASE("a list of vetoes names pairs of different ranks, or is refused as a whole") {
  using tpx::detail::parse_vetoes;
  auto const some = parse_vetoes("0-1,15-14,3-7");
  for (int a = 0; a < max_ranks; ++a) {
    for (int b = 0; b < max_ranks; ++b) {
      auto const is = [&](int x, int y) { return (a == x && b == y) || (a == y && b == x); };
      bool const named = is(0, 1) || is(15, 14) || is(3, 7);
      CHECK(some.has(a, b) == named);
    }
  }
  CHECK(parse_vetoes("").bits == std::array<std::uint64_t, 2>{});
  for (char const* bad :
       {"0", "0-", "-1", "0-0", "0-16", "0-1;2-3", "a-b", "0-1,,2-3", "0-1 ", "0--1"}) {
    INFO(bad);
    CHECK_THROWS_AS(parse_vetoes(bad), tpx::error);
  }
}

TEST_CASE("a bad list of vetoes is an error on every rank", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  variable const veto{"TPX_P2P_VETO", "0:1"};
  auto found = errors_of(2, [](group& g) { static_cast<void>(tpx::probe_peers(g)); });
  for (int r = 0; r < 2; ++r) {
    INFO(found.of(r));
    CHECK(found.of(r).starts_with("invalid_argument "));
    CHECK(found.of(r).find("TPX_P2P_VETO=\"0:1\"") != std::string::npos);
  }
}

TEST_CASE("out of GPU memory is an error on all ranks, and reset() mends it", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  constexpr int n = 3;
  constexpr std::size_t far_too_much = std::size_t{1} << 38;
  for (bool plain : {false, true}) {
    variable const off{"TPX_VMM_DISABLE", plain ? "1" : "0"};
    notes found;
    notes after;
    on_gpus(n, [&](group& g) {
      try {
        bool const hungry = plain || g.rank() == 1;
        peer_memory const memory{g, hungry ? far_too_much : std::size_t{4096}};
      } catch (tpx::error const& e) {
        found.add(g.rank(), std::string{tpx::name(e.code())});
        if (!plain && g.rank() != 1) { found.add(g.rank(), ' ' + std::to_string(e.peer())); }
        g.reset();
        after.add(g.rank(), exercise<peer_memory>(g, odd_bytes));
      }
    });
    for (int r = 0; r < n; ++r) {
      CHECK(found.of(r) == (plain || r == 1 ? "out_of_memory" : "out_of_memory 1"));
    }
    CHECK(after.all() == "");
  }
}

TEST_CASE("memory that is let go of leaves nothing behind", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  auto const round = [] {
    on_gpus(3, [](group& g) {
      peer_memory const a{g, odd_bytes};
      host_memory const b{g, odd_bytes};
      g.exchange(1);
    });
  };
  auto const available = [] {
    std::size_t now = 0;
    std::size_t all = 0;
    cuda_check(cudaSetDevice(0), "choosing a device");
    cuda_check(cudaMemGetInfo(&now, &all), "asking for memory");
    return now;
  };
  round();
  auto const before = available();
  auto const files = descriptors();
  for (int i = 0; i < 20; ++i) { round(); }
  CHECK(available() + (std::size_t{32} << 20) > before);
  CHECK(descriptors() == files);
}

TEST_CASE("memory for eight ranks is there in milliseconds", "[cuda]") {
  NEED_GPU();
  variable const shared{"TPX_ALLOW_SHARED_GPU", "1"};
  double peer_ms = 1e9;
  double host_ms = 1e9;
  double probe_ms = 1e9;
  auto const timed = [](group& g, double& best, auto make) {
    g.exchange(1);
    auto const begun = std::chrono::steady_clock::now();
    make();
    g.exchange(2);
    std::chrono::duration<double, std::milli> const took = std::chrono::steady_clock::now() - begun;
    if (g.rank() == 0 && took.count() < best) { best = took.count(); }
  };
  on_gpus(8, [&](group& g) {
    for (int i = 0; i < 5; ++i) {
      timed(g, peer_ms, [&] { peer_memory const memory{g, std::size_t{8} << 20}; });
      timed(g, host_ms, [&] { host_memory const memory{g, std::size_t{1} << 20}; });
      timed(g, probe_ms, [&] { static_cast<void>(tpx::probe_peers(g)); });
    }
  });
  WARN("8 ranks on " << gpu_count() << " GPUs: PeerDirect 8 MiB " << peer_ms
                     << " ms, HostPinned 1 MiB " << host_ms << " ms, probe_peers " << probe_ms
                     << " ms");
  CHECK(peer_ms < 100);
  CHECK(host_ms < 100);
  CHECK(probe_ms < 100);
}

TEST_CASE("a rank of the test of processes", "[.rank]") {
  std::string found;
  std::string veto;
  tpx::run_ranks(0, [&](group& g) {
    cuda_check(cudaSetDevice(g.rank() % gpu_count()), "choosing a device");
    found += exercise<peer_memory>(g, odd_bytes);
    found += exercise<host_memory>(g, odd_bytes);
    auto const before = descriptors();
    for (int i = 0; i < 5; ++i) {
      found += exercise<peer_memory>(g, odd_bytes);
      found += exercise<host_memory>(g, odd_bytes);
    }
    if (descriptors() != before) { found += "descriptors are left; "; }
    if (g.rank() == 1) { ::setenv("TPX_P2P_VETO", "0-1", 1); }  // one rank's veto counts for all
    auto const matrix = tpx::probe_peers(g);
    if (matrix.of(0, 1) != p2p_verdict::vetoed || matrix.of(1, 0) != p2p_verdict::vetoed) {
      found += "the veto of rank 1 is not everywhere; ";
    }
    ::setenv("TPX_P2P_VETO", "", 1);
    if (g.rank() == 0) { ::setenv("TPX_VMM_DISABLE", "1", 1); }
    auto const without = tpx::probe_peers(g);
    if (without.of(0, 1) != p2p_verdict::no_handles || without.of(1, 1) != p2p_verdict::good) {
      found += "without descriptors the verdict is " + without.story() + "; ";
    }
    g.exchange(1);
  });
  INFO(found);
  REQUIRE(found.empty());
}

TEST_CASE("ranks that are processes reach each other's memory", "[cuda]") {
  NEED_GPU();
  for (int n : {2, 3}) {
    auto const job = process::new_job();
    std::vector<process::child> ranks;
    for (int r = 0; r < n; ++r) {
      auto variables = process::rank_of(job, r, n);
      variables.emplace_back("TPX_ALLOW_SHARED_GPU", "1");
      ranks.emplace_back(process::words{PROCESS_PROGRAM, "[.rank]"}, variables);
    }
    for (auto& rank : ranks) {
      bool const fine = rank.succeeds(60);
      INFO(rank.text());
      CHECK(fine);
    }
  }
}
