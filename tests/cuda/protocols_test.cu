// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Runs the shipped protocols as kernels, n ranks as n streams of one GPU, and on CPU threads over
// the same kind of windows, and requires the same bits of both.
#include <tpx/cuda/space.cuh>
#include <tpx/protocol/allreduce.hpp>
#include <tpx/protocol/barrier.hpp>
#include <tpx/protocol/gather.hpp>
#include <tpx/protocol/scatter.hpp>
#include <tpx/run_ranks.hpp>
#include <tpx/topology/all_pairs.hpp>
#include <tpx/topology/ring.hpp>
#include <tpx/topology/tree.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using tpx::wires;
constexpr int channels = 2;
constexpr int most = 4;

void check(cudaError_t status, char const* what) {
  if (status != cudaSuccess) {
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
    std::exit(1);
  }
}

template <class Topology>
struct whole_barrier {
  wires w;
  template <tpx::thread_group G>
  TPX_HD void operator()(G const& g) const {
    tpx::barrier_arrive<Topology>{w}(g);
    tpx::barrier_wait<Topology>{w}(g);
  }
};

/// One rank's arrays, each of n elements for each rank.
template <class T>
struct arrays {
  T* in;
  T* out;
};

/// Device memory for all ranks of one GPU.
struct gpu {
  std::byte* windows;
  std::byte* data;
  tpx::device_watch* watches;
  cudaStream_t streams[most];
};

template <class Make, class T>
std::vector<T> on_gpu(gpu const& g, int n, std::vector<T> const& in, Make make) {
  tpx::window_layout const layout{n, channels, 1024};
  auto const bytes = layout.bytes();
  auto const size = in.size() * sizeof(T);
  check(cudaMemset(g.windows, 0, bytes * n), "clear");
  check(cudaMemset(g.watches, 0, sizeof(tpx::device_watch) * n), "clear");
  check(cudaMemcpy(g.data, in.data(), size, cudaMemcpyHostToDevice), "copy in");
  check(cudaMemset(g.data + size, 0xee, size), "poison");
  using protocol = decltype(make(wires{}, arrays<T>{}));
  check(tpx::Cuda::load<protocol>(), "load");
  check(cudaDeviceSynchronize(), "clear");
  auto const each = in.size() / n;
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (int r = 0; r < n; ++r) {
      wires w{};
      w.layout = layout;
      w.rank = r;
      w.signature = 77;
      for (int p = 0; p < n; ++p) { w.window[p] = g.windows + bytes * p; }
      auto* const base = reinterpret_cast<T*>(g.data);
      tpx::Cuda const space{.stream = g.streams[r],
                            .blocks = channels,
                            .threads = 96,
                            .watch = g.watches + r,
                            .deadline_ns = 5'000'000'000};
      check(space.launch(make(w, arrays<T>{base + each * r, base + in.size() + each * r})),
            "launch");
    }
  }
  check(cudaDeviceSynchronize(), "run");
  tpx::device_watch seen[most];
  check(cudaMemcpy(seen, g.watches, sizeof(tpx::device_watch) * n, cudaMemcpyDeviceToHost),
        "watch");
  for (int r = 0; r < n; ++r) {
    if (seen[r].aborted != 0) {
      std::fprintf(stderr, "rank %d gave up on rank %d\n", r, static_cast<int>(seen[r].peer));
      std::exit(1);
    }
  }
  std::vector<T> out(in.size());
  check(cudaMemcpy(out.data(), g.data + size, size, cudaMemcpyDeviceToHost), "copy out");
  return out;
}

template <class Make, class T>
std::vector<T> on_cpu(int n, std::vector<T> const& in, Make make) {
  tpx::window_layout const layout{n, 1, 1024};
  auto const bytes = layout.bytes();
  std::vector<std::byte> windows(bytes * n + 64);
  auto* const aligned =
    reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(windows.data()) + 63) / 64 * 64);
  std::vector<T> x = in;
  std::vector<T> out(in.size());
  std::memset(static_cast<void*>(out.data()), 0xee, out.size() * sizeof(T));
  auto const each = in.size() / n;
  tpx::ledger calls{};
  auto body = [&](tpx::group& g) {
    wires w{};
    w.layout = layout;
    w.rank = g.rank();
    w.signature = tpx::call_signature{tpx::collective::allreduce}.pack();
    for (int p = 0; p < n; ++p) { w.window[p] = aligned + bytes * p; }
    tpx::host_waiter waiter{g.me(), calls};
    for (int repeat = 0; repeat < 3; ++repeat) {
      waiter.begin({tpx::collective::allreduce});
      make(w, arrays<T>{x.data() + each * w.rank, out.data() + each * w.rank})(
        tpx::host_thread{&waiter});
      waiter.end();
    }
  };
  tpx::detail::run_threads(n, body, {});
  return out;
}

int failures = 0;
int cases = 0;

template <class T, class Make>
void same(gpu const& g, char const* what, int n, std::size_t each, Make make) {
  std::vector<T> in(each * n);
  for (std::size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<T>(static_cast<float>((i * 2654435761u >> 7) % 1000) / 37.0f);
  }
  auto const a = on_gpu(g, n, in, make);
  auto const b = on_cpu(n, in, make);
  ++cases;
  if (std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) != 0) {
    ++failures;
    std::fprintf(stderr, "FAILED: %s, %d ranks, %zu elements\n", what, n, each);
  }
}

template <class Topology, class T, bool Shared>
void all(gpu const& g, int n, std::size_t each) {
  using tpx::Sum;
  using none = tpx::no_epilogue;
  same<T>(g, "one shot", n, each, [=](wires const& w, arrays<T> a) {
    return tpx::one_shot_allreduce<T, Sum, none, Shared>{w, a.in, a.out, each, {}, {}};
  });
  same<T>(g, "scattered", n, each, [=](wires const& w, arrays<T> a) {
    return tpx::scattered_allreduce<Topology, T, Sum, none, Shared>{w, a.in, a.out, each, {}, {}};
  });
  same<T>(g, "rooted", n, each, [=](wires const& w, arrays<T> a) {
    return tpx::rooted_allreduce<Topology, T, Sum, none, Shared>{w, a.in, a.out, each, {}, {}};
  });
  auto const cut = tpx::columns::even(each, n);
  same<T>(g, "reduce_scatter", n, each, [=](wires const& w, arrays<T> a) {
    return tpx::reduce_scatter_protocol<Topology, T, Sum, none, Shared>{w,    cut,   1,  a.in,
                                                                        each, a.out, {}, {}};
  });
  same<T>(g, "allgather", n, each, [=](wires const& w, arrays<T> a) {
    return tpx::allgather_protocol<Topology, T, Shared>{w, cut, 1, a.in, each, a.out, each};
  });
  same<T>(g, "broadcast", n, each, [=](wires const& w, arrays<T> a) {
    return tpx::broadcast_protocol<Topology, T, Shared>{w, a.in, each, n - 1};
  });
  tpx::columns root{};
  root.end[n - 1] = each;
  same<T>(g, "gather", n, each, [=](wires const& w, arrays<T> a) {
    return tpx::gather_protocol<Topology, T>{w, cut, root, 1, a.in, each, 0, a.out, each};
  });
  same<T>(g, "barrier arrive", n, each,
          [](wires const& w, arrays<T>) { return tpx::barrier_arrive<Topology>{w}; });
}

}  // namespace

TEST_CASE("every protocol gives the same bits on a GPU as on the CPU", "[cuda]") {
  gpu g{};
  check(cudaMalloc(&g.windows, std::size_t{8} << 20), "cudaMalloc");
  check(cudaMalloc(&g.data, std::size_t{8} << 20), "cudaMalloc");
  check(cudaMalloc(&g.watches, sizeof(tpx::device_watch) * most), "cudaMalloc");
  for (auto& s : g.streams) {
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "stream");
  }
  for (int n = 1; n <= most; ++n) {
    for (std::size_t each : {std::size_t{1}, std::size_t{129}, std::size_t{5000}}) {
      all<tpx::AllPairs, float, true>(g, n, each);
      all<tpx::Ring, float, false>(g, n, each);
      all<tpx::Tree, float, false>(g, n, each);
      all<tpx::AllPairs, tpx::bfloat16, false>(g, n, each);
    }
  }
  REQUIRE(cases == 4 * 3 * 4 * 8);
  REQUIRE(failures == 0);
}

TEST_CASE("a kernel that waits for a rank that never comes ends at its deadline", "[cuda]") {
  gpu g{};
  check(cudaMalloc(&g.windows, std::size_t{1} << 20), "cudaMalloc");
  check(cudaMalloc(&g.watches, sizeof(tpx::device_watch)), "cudaMalloc");
  check(cudaMemset(g.windows, 0, std::size_t{1} << 20), "clear");
  check(cudaMemset(g.watches, 0, sizeof(tpx::device_watch)), "clear");
  wires w{};
  w.layout = {2, 1, 1024};
  for (int p = 0; p < 2; ++p) { w.window[p] = g.windows + w.layout.bytes() * p; }
  tpx::Cuda const space{.watch = g.watches, .deadline_ns = 50'000'000};
  auto const begun = std::chrono::steady_clock::now();
  check(space.launch(whole_barrier<tpx::AllPairs>{w}), "launch");
  check(cudaDeviceSynchronize(), "run");
  auto const took = std::chrono::steady_clock::now() - begun;
  tpx::device_watch seen{};
  check(cudaMemcpy(&seen, g.watches, sizeof(seen), cudaMemcpyDeviceToHost), "watch");
  REQUIRE(seen.aborted == 1);
  REQUIRE(seen.reason == 1);
  REQUIRE(seen.peer == 1);
  REQUIRE(took < std::chrono::seconds{2});
}
