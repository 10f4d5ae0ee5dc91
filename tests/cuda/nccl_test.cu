// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The transport Nccl, a thread a GPU. Expected values are made by loops on the CPU.
#include "world.hpp"

#include <tpx/cut.hpp>
#include <tpx/nccl.cuh>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using namespace world;
using namespace std::chrono_literals;
using nccl_communicator = communicator<Nccl>;
using tpx::detail::cuda_check;

/// NVLink multicast is left alone, whatever the environment says. Before NCCL reads it.
int const no_multicast = ::setenv("NCCL_NVLS_ENABLE", "0", 1);

int gpus() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? std::min(n, 4) : 0;
}

void skip_unless(int wanted) {
  if (gpus() < wanted) { SKIP("needs " << wanted << " GPUs"); }
}

/// Memory that ranks have done with, freed once all of them are: NCCL lets ranks of one process
/// write into each other's arrays, and after an error one rank's kernel may outlast another's.
class attic {
 public:
  void keep(void* memory) {
    std::lock_guard const lock{mutex_};
    kept_.push_back(memory);
  }
  void clear() {
    std::lock_guard const lock{mutex_};
    for (void* const memory : kept_) { cudaFree(memory); }
    kept_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<void*> kept_;
};
attic done_with;

/// Runs body(group, stream) on n thread ranks, each with a GPU of its own.
template <class F>
void on_gpus(int n, F body, std::chrono::nanoseconds deadline = 60s) {
  for (int device = 0; device < n; ++device) {  // contexts take a second, deadlines may be shorter
    cuda_check(cudaSetDevice(device), "choosing a GPU");
    cuda_check(cudaFree(nullptr), "making a context");
  }
  auto on_rank = [&](group& g) {
    cuda_check(cudaSetDevice(g.rank()), "choosing a GPU");
    cudaStream_t stream = nullptr;
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    body(g, stream);
    cuda_check(cudaStreamDestroy(stream), "destroying a stream");
  };
  tpx::detail::run_threads(n, on_rank, {.deadline = deadline});
  done_with.clear();
}

/// What each rank's body threw, by rank. Ranks go on as if it had not, until all are done.
template <class F>
std::vector<error> errors_on_gpus(int n, std::chrono::nanoseconds deadline, F body) {
  std::vector<error> all(static_cast<std::size_t>(n), error{errc::ok, "nothing"});
  std::atomic<int> done = 0;
  on_gpus(
    n,
    [&](group& g, cudaStream_t stream) {
      try {
        body(g, stream);
      } catch (error const& e) { all[static_cast<std::size_t>(g.rank())] = e; }
      ++done;
      while (done < n) { std::this_thread::sleep_for(1ms); }
    },
    deadline);
  return all;
}

constexpr std::size_t guard = 64;

/// n elements of GPU memory between two guards, all filled with a poison at first.
template <class T>
class device_array {
 public:
  explicit device_array(std::size_t n) : n_{n} {
    cuda_check(cudaMalloc(&memory_, bytes()), "allocating");
    cuda_check(cudaMemset(memory_, 0xa5, bytes()), "filling");
    cuda_check(cudaDeviceSynchronize(), "filling");
  }
  device_array(device_array&&) = delete;
  ~device_array() { done_with.keep(memory_); }
  [[nodiscard]] T* data() const { return static_cast<T*>(memory_) + guard; }
  void set(std::vector<T> const& from) {
    cuda_check(cudaMemcpy(data(), from.data(), n_ * sizeof(T), cudaMemcpyHostToDevice), "copying");
    // A copy from pageable memory may return before it has arrived, and the ranks' streams do not
    // wait for the default one.
    cuda_check(cudaStreamSynchronize(nullptr), "copying");
  }
  /// The elements; notes a guard that was written to.
  [[nodiscard]] std::vector<T> get(notes& found, std::string const& what) const {
    std::vector<T> all(n_ + 2 * guard);
    cuda_check(cudaMemcpy(all.data(), memory_, bytes(), cudaMemcpyDeviceToHost), "copying");
    T poison;
    std::memset(static_cast<void*>(&poison), 0xa5, sizeof(T));
    for (std::size_t i = 0; i < all.size(); ++i) {
      bool const outside = i < guard || i >= guard + n_;
      if (outside && !same_bits(all[i], poison)) {
        found.add(what + ": wrote outside the output");
        break;
      }
    }
    return {all.begin() + guard, all.begin() + static_cast<std::ptrdiff_t>(guard + n_)};
  }

 private:
  [[nodiscard]] std::size_t bytes() const { return (n_ + 2 * guard) * sizeof(T); }
  std::size_t n_;
  void* memory_ = nullptr;
};

template <class T>
std::vector<T> values(int rank, std::size_t n, unsigned salt) {
  std::vector<T> v(n);
  for (std::size_t i = 0; i < n; ++i) { v[i] = value<T>(rank, i, salt); }
  return v;
}

/// Two numbers as one element: no type of NCCL's.
struct point {
  float x;
  std::int32_t y;
};
struct add_points {
  TPX_HD point operator()(point a, point b) const { return {a.x + b.x, a.y + b.y}; }
};

/// Not commutative: tells in which order it was applied.
struct horner {
  template <class A>
  TPX_HD A operator()(A a, A b) const {
    return static_cast<A>(2 * a + b);  // 2 a is exact: the same with and without a fused add
  }
};

template <class T>
std::string name_of(char const* what, int n, std::size_t size) {
  return std::string{what} + " of " + std::to_string(size) + " x " +
         std::string{name(dtype_of<T>())} + " on " + std::to_string(n) + " ranks";
}

/// One all-reduce of `size` elements, in place if asked, against the fold of all ranks' values in
/// rank order: exactly, or as near as additions in another order and in T itself come.
template <class T, class Op = Sum>
void try_allreduce(nccl_communicator& comm, cudaStream_t stream, std::size_t size, unsigned salt,
                   bool in_place, bool exact, notes& found) {
  int const n = comm.size();
  device_array<T> in{size};
  device_array<T> out{size};
  in.set(values<T>(comm.rank(), size, salt));
  T* const to = in_place ? in.data() : out.data();
  comm.allreduce(tpx::detail::describe<T>(collective::allreduce, size, tpx::detail::op_code<Op>()),
                 in.data(), to, size, Op{}, no_epilogue{}, stream);
  comm.synchronize(stream);
  auto const what = name_of<T>("allreduce", n, size);
  auto const got = (in_place ? in : out).get(found, what);
  for (std::size_t i = 0; i < size; ++i) {
    using A = accumulate_t<T>;
    A sum = static_cast<A>(value<T>(0, i, salt));
    double whole = as_double(value<T>(0, i, salt));
    double magnitude = std::abs(whole);
    for (int r = 1; r < n; ++r) {
      T const v = value<T>(r, i, salt);
      sum = Op{}(sum, static_cast<A>(v));
      whole += as_double(v);
      magnitude += std::abs(as_double(v));
    }
    bool const near = std::abs(as_double(got[i]) - whole) <=
                      n * tolerance<T>(magnitude, magnitude, n);  // rounded at each addition
    if (exact ? !same_bits(got[i], static_cast<T>(sum)) : !near) {
      found.add(what + ": element " + std::to_string(i) + " is " +
                std::to_string(as_double(got[i])) + ", not " + std::to_string(as_double(sum)));
      return;
    }
  }
}

}  // namespace

TEST_CASE("an all-reduce on NCCL gives every rank the sum, whatever the type and the size") {
  skip_unless(1);
  notes found;
  std::atomic<int> cases = 0;
  for (int n = 1; n <= gpus(); ++n) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      nccl_communicator comm{g, options(n)};
      unsigned salt = 0;
      for (std::size_t const size : {0, 1, 7, 1000, 65537}) {
        for (bool const in_place : {false, true}) {
          auto const go = [&]<class T>(T) {
            try_allreduce<T>(comm, stream, size, ++salt, in_place, std::is_integral_v<T>, found);
            ++cases;
          };
          for_types(go);
          go(std::uint8_t{});
          go(std::int16_t{});  // no type of NCCL's
          go(std::int64_t{});
        }
      }
      if (comm.stats().calls != salt) { found.add("stats() counts calls that were not made"); }
    });
  }
  REQUIRE(found.all() == "");
  REQUIRE(cases == 5 * 2 * 9 * gpus() * (gpus() + 1) / 2);
}

TEST_CASE("operations that NCCL lacks are applied in rank order") {
  skip_unless(1);
  notes found;
  for (int n = 1; n <= gpus(); ++n) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      nccl_communicator comm{g, options(n)};
      for (std::size_t const size : {1, 1000, 40001}) {
        try_allreduce<float, horner>(comm, stream, size, 1, false, true, found);
        try_allreduce<std::int32_t, horner>(comm, stream, size, 2, true, true, found);
        try_allreduce<bfloat16, horner>(comm, stream, size, 3, true, true, found);
        try_allreduce<float16, Max>(comm, stream, size, 4, false, true, found);
        try_allreduce<double, Min>(comm, stream, size, 5, false, true, found);
        try_allreduce<std::int8_t, Max>(comm, stream, size, 6, false, true, found);
        try_allreduce<std::int32_t, Prod>(comm, stream, size, 7, false, true, found);
      }
      device_array<point> p{100};
      p.set(std::vector<point>(100, point{0.5f, g.rank()}));
      comm.allreduce(tpx::detail::describe<point>(collective::allreduce, 100, 77), p.data(),
                     p.data(), 100, add_points{}, no_epilogue{}, stream);
      comm.synchronize(stream);
      for (point const v : p.get(found, "points")) {
        if (v.x != 0.5f * static_cast<float>(n) || v.y != n * (n - 1) / 2) {
          found.add("a sum of points is wrong");
        }
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("the largest of numbers and NaN is NaN on NCCL too") {
  skip_unless(1);
  notes found;
  int const n = gpus();
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    nccl_communicator comm{g};
    device_array<float> x{64};
    auto v = values<float>(g.rank(), 64, 1);
    if (g.rank() == n - 1) { v[5] = std::numeric_limits<float>::quiet_NaN(); }
    x.set(v);
    comm.allreduce(tpx::detail::describe<float>(collective::allreduce, 64, Max::code), x.data(),
                   x.data(), 64, Max{}, no_epilogue{}, stream);
    comm.synchronize(stream);
    auto const got = x.get(found, "max");
    if (!std::isnan(got[5]) || std::isnan(got[6])) { found.add("NaN was lost or spread"); }
  });
  REQUIRE(found.all() == "");
}

TEST_CASE("an epilogue sees the sum before it is rounded, and may accumulate into the output") {
  skip_unless(1);
  notes found;
  for (int n = 1; n <= gpus(); ++n) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      nccl_communicator comm{g, options(n)};
      auto const go = [&]<class T>(T) {
        std::size_t const size = 10007;
        device_array<T> in{size};
        device_array<T> residual{size};
        in.set(std::vector<T>(size, static_cast<T>(0.0078125f)));  // lost where 2 is added first
        residual.set(std::vector<T>(size, static_cast<T>(static_cast<accumulate_t<T>>(2))));
        comm.allreduce(tpx::detail::describe<T>(collective::allreduce, size, Sum::code), in.data(),
                       residual.data(), size, Sum{}, add_residual{residual.data()}, stream);
        comm.synchronize(stream);
        auto const wanted = static_cast<T>(static_cast<accumulate_t<T>>(0.0078125 * n + 2));
        for (T const v : residual.get(found, "epilogue")) {
          if (!same_bits(v, wanted)) {
            found.add(name_of<T>("a residual sum", n, size) + " is " +
                      std::to_string(as_double(v)));
            break;
          }
        }
      };
      go(float{});
      go(double{});
      go(bfloat16{});
      go(float16{});
    });
  }
  REQUIRE(found.all() == "");
}

namespace {

/// Uneven columns, with a gap-free cover: rank 1 has none, the last two hold the same ones.
columns uneven_columns(int n, std::size_t total, bool copies) {
  columns c{};
  std::size_t at = 0;
  for (int r = 0; r < n; ++r) {
    std::size_t const left = total - at;
    std::size_t const size = r + 1 == n ? left : (r == 1 ? 0 : left / 3);
    c.begin[r] = at;
    at += size;
    c.end[r] = at;
  }
  if (copies && n > 2) { c.begin[n - 2] = c.begin[n - 1], c.end[n - 2] = c.end[n - 1]; }
  return c;
}

/// Whether rows of `width` at `pitch` hold what at(row, column) says, and poison between.
template <class T, class At>
void expect_matrix(std::vector<T> const& got, std::size_t rows, std::size_t width,
                   std::size_t pitch, std::string const& what, notes& found, At&& at) {
  T poison;
  std::memset(static_cast<void*>(&poison), 0xa5, sizeof(T));
  for (std::size_t i = 0; i < got.size(); ++i) {
    std::size_t const row = i / pitch;
    std::size_t const col = i % pitch;
    T const wanted = row < rows && col < width ? at(row, col) : poison;
    if (!same_bits(got[i], wanted)) {
      found.add(what + ": element " + std::to_string(i) + " is wrong");
      return;
    }
  }
}

template <class T>
void try_matrices(nccl_communicator& comm, cudaStream_t stream, std::size_t rows, bool even,
                  notes& found) {
  int const n = comm.size();
  int const me = comm.rank();
  std::size_t const width = even ? static_cast<std::size_t>(n) * 37 : 533;
  std::size_t const gap = rows == 1 ? 0 : 5;
  auto const what = [&](char const* kind) { return name_of<T>(kind, n, rows * width); };
  auto const held = even ? columns::even(width, n) : uneven_columns(n, width, false);
  auto const element = [&](std::size_t row, std::size_t col, int rank) {
    return value<T>(rank, row * 10000 + col, 9);
  };
  {
    std::size_t const own = held.size(me);
    std::size_t const in_pitch = own + gap;
    std::size_t const out_pitch = width + gap;
    std::vector<T> mine(rows * in_pitch);
    for (std::size_t i = 0; i < mine.size() && own != 0; ++i) {
      mine[i] = element(i / in_pitch, held.begin[me] + i % in_pitch, 0);
    }
    device_array<T> in{mine.size()};
    device_array<T> out{rows * out_pitch};
    in.set(mine);
    comm.allgather(tpx::detail::describe<T>(collective::allgather, rows * width), held, rows,
                   in.data(), in_pitch, out.data(), out_pitch, stream);
    comm.synchronize(stream);
    expect_matrix(out.get(found, what("allgather")), rows, width, out_pitch, what("allgather"),
                  found, [&](std::size_t row, std::size_t col) { return element(row, col, 0); });

    columns target{};  // the last rank gets all but three columns, rank 0 those
    target.end[0] = 3;
    target.begin[n - 1] = n == 1 ? 0 : 3;
    target.end[n - 1] = width;
    std::size_t const wanted = target.size(me);
    device_array<T> gathered{rows * (wanted + gap)};
    comm.gather(tpx::detail::describe<T>(collective::gather, rows * width), held, target, rows,
                in.data(), in_pitch, held.begin[me], gathered.data(), wanted + gap, stream);
    comm.synchronize(stream);
    if (wanted + gap != 0) {
      expect_matrix(
        gathered.get(found, what("gather")), rows, wanted, wanted + gap, what("gather"), found,
        [&](std::size_t row, std::size_t col) { return element(row, target.begin[me] + col, 0); });
    }
  }
  auto const cut = even ? held : uneven_columns(n, width, true);
  std::size_t const own = cut.size(me);
  std::vector<T> mine(rows * (width + gap));
  for (std::size_t i = 0; i < mine.size(); ++i) {
    mine[i] = element(i / (width + gap), i % (width + gap), me);
  }
  device_array<T> in{mine.size()};
  in.set(mine);
  auto const scatter = [&](auto op, auto epilogue, auto&& wanted, char const* kind) {
    device_array<T> out{rows * own};
    comm.reduce_scatter(tpx::detail::describe<T>(collective::reduce_scatter, rows * width), cut,
                        rows, in.data(), width + gap, out.data(), op, epilogue, stream);
    comm.synchronize(stream);
    if (own == 0) { return; }
    expect_matrix(out.get(found, what(kind)), rows, own, own, what(kind), found,
                  [&](std::size_t row, std::size_t col) {
                    using A = accumulate_t<T>;
                    A sum = static_cast<A>(element(row, cut.begin[me] + col, 0));
                    for (int r = 1; r < n; ++r) {
                      sum = op(sum, static_cast<A>(element(row, cut.begin[me] + col, r)));
                    }
                    return static_cast<T>(wanted(sum, row * own + col));
                  });
  };
  auto const as_is = [](auto sum, std::size_t) { return sum; };
  scatter(Max{}, no_epilogue{}, as_is, "reduce_scatter by max");
  scatter(horner{}, no_epilogue{}, as_is, "reduce_scatter by horner");
  if constexpr (std::is_integral_v<T>) {  // exact in any order
    scatter(Sum{}, no_epilogue{}, as_is, "reduce_scatter");
    auto const bias = values<T>(0, rows * own, 33);
    device_array<T> same{rows * own};
    same.set(bias);
    scatter(
      Sum{}, add_residual<T>{same.data()},
      [&](T sum, std::size_t i) { return static_cast<T>(sum + bias[i]); },
      "reduce_scatter with an epilogue");
  }
}

}  // namespace

TEST_CASE("matrices with gaps and uneven columns move on NCCL as on the other transports") {
  skip_unless(1);
  notes found;
  for (int n = 1; n <= gpus(); ++n) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      nccl_communicator comm{g, options(n)};
      for (std::size_t const rows : {1, 2, 19}) {
        for (bool const even : {false, true}) {
          try_matrices<std::int32_t>(comm, stream, rows, even, found);
          try_matrices<std::int16_t>(comm, stream, rows, even, found);
          try_matrices<bfloat16>(comm, stream, rows, even, found);
          try_matrices<double>(comm, stream, rows, even, found);
        }
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("a broadcast on NCCL brings the root's bytes, an in-place all-gather all ranks'") {
  skip_unless(1);
  notes found;
  int const n = gpus();
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    nccl_communicator comm{g};
    for (int root = 0; root < n; ++root) {
      device_array<float16> x{1001};
      x.set(values<float16>(g.rank(), 1001, 5));
      comm.broadcast(tpx::detail::describe<float16>(collective::broadcast, 1001, 0, root), x.data(),
                     1001, root, stream);
      comm.synchronize(stream);
      auto const got = x.get(found, "broadcast");
      auto const wanted = values<float16>(root, 1001, 5);
      if (std::memcmp(got.data(), wanted.data(), 2002) != 0) { found.add("broadcast is wrong"); }
    }
    auto const width = static_cast<std::size_t>(n) * 100;
    auto const cut = columns::even(width, n);
    device_array<float> all{width};
    auto mine = std::vector<float>(width, -1.0f);
    auto const own = values<float>(g.rank(), 100, 6);
    std::copy(own.begin(), own.end(),
              mine.begin() + static_cast<std::ptrdiff_t>(cut.begin[g.rank()]));
    all.set(mine);
    comm.allgather(tpx::detail::describe<float>(collective::allgather, width), cut, 1,
                   all.data() + cut.begin[g.rank()], 100, all.data(), width, stream);
    comm.barrier({collective::barrier}, stream);
    comm.synchronize(stream);
    auto const got = all.get(found, "allgather");
    for (std::size_t i = 0; i < width; ++i) {
      if (got[i] != value<float>(static_cast<int>(i / 100), i % 100, 6)) {
        found.add("an in-place allgather is wrong");
        break;
      }
    }
  });
  REQUIRE(found.all() == "");
}

namespace {

/// A CUDA graph of what f() enqueues.
template <class F>
cudaGraphExec_t capture(cudaStream_t stream, F&& f) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
  f();
  cuda_check(cudaStreamEndCapture(stream, &graph), "capturing");
  cuda_check(cudaGraphInstantiate(&exec, graph, 0), "instantiating a graph");
  cuda_check(cudaGraphDestroy(graph), "destroying a graph");
  return exec;
}

template <class T, class Op = Sum>
void allreduce_in_place(nccl_communicator& comm, device_array<T>& x, std::size_t n, Op op,
                        cudaStream_t stream) {
  comm.allreduce(tpx::detail::describe<T>(collective::allreduce, n, tpx::detail::op_code<Op>()),
                 x.data(), x.data(), n, op, no_epilogue{}, stream);
}

}  // namespace

TEST_CASE("captured calls replay, between eager ones") {
  skip_unless(1);
  notes found;
  int const n = gpus();
  for (bool const watched : {true, false}) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      nccl_communicator comm{g, {.max_bytes = 1024}, {.watch_replays = watched}};
      std::size_t const size = 5000;
      device_array<std::int32_t> x{size};
      x.set(std::vector<std::int32_t>(size, 1));
      auto const exec = capture(stream, [&] {
        allreduce_in_place(comm, x, size, Sum{}, stream);
        allreduce_in_place(comm, x, size, horner{}, stream);
      });
      std::uint32_t wanted = 1;
      auto const ranks = static_cast<std::uint32_t>(n);
      for (int round = 0; round < 20; ++round) {
        cuda_check(cudaGraphLaunch(exec, stream), "replaying");
        allreduce_in_place(comm, x, size, Sum{}, stream);
        wanted *= ranks;
        std::uint32_t folded = wanted;
        for (int r = 1; r < n; ++r) { folded = 2 * folded + wanted; }
        wanted = folded * ranks;
      }
      comm.synchronize(stream);
      for (auto const v : x.get(found, "replays")) {
        if (static_cast<std::uint32_t>(v) != wanted) {
          found.add("20 replays gave " + std::to_string(v));
          break;
        }
      }
      cuda_check(cudaGraphExecDestroy(exec), "destroying a graph");
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("a communicator of the caller's is adopted, with and without a group, and stays") {
  skip_unless(1);
  notes found;
  int const n = gpus();
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    ncclComm_t callers = nullptr;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (ncclCommInitRankConfig(&callers, n, id, g.rank(), &config) != ncclSuccess) {
      throw error{errc::nccl, "no communicator"};
    }
    {
      nccl_communicator comm{callers, g};
      if (comm.handle() != callers) { found.add("handle() is another communicator"); }
      try_allreduce<float>(comm, stream, 1000, 1, false, false, found);
    }
    {
      nccl_communicator comm{callers};
      if (comm.rank() != g.rank() || comm.size() != n) { found.add("rank or size is wrong"); }
      try_allreduce<std::int32_t>(comm, stream, 1000, 2, true, true, found);
      try_allreduce<float, Max>(comm, stream, 1000, 3, true, true, found);
    }
    int count = 0;
    if (ncclCommCount(callers, &count) != ncclSuccess || count != n) {
      found.add("the caller's communicator did not survive");
    }
    g.exchange(0);
    if (ncclCommDestroy(callers) != ncclSuccess) { found.add("it cannot be destroyed"); }
  });
  REQUIRE(found.all() == "");
}

TEST_CASE("ranks that call different things get the same error, naming one of them") {
  skip_unless(2);
  int const n = gpus();
  auto const all = errors_on_gpus(n, 20s, [&](group& g, cudaStream_t stream) {
    nccl_communicator comm{g};
    device_array<float> x{1000};
    x.set(std::vector<float>(1000, 1.0f));
    allreduce_in_place(comm, x, 1000, Sum{}, stream);
    allreduce_in_place(comm, x, g.rank() == 1 ? 999 : 1000, Sum{}, stream);
    comm.synchronize(stream);
    g.exchange(0);
  });
  for (auto const& e : all) {
    CAPTURE(e.what());
    REQUIRE(e.code() == errc::mismatch);
    if (n > 2) { REQUIRE(e.peer() == 1); }
  }
}

TEST_CASE("a rank that never calls is named after the deadline, and its GPU's kernels leave") {
  skip_unless(2);
  int const n = gpus();
  for (bool const replayed : {false, true}) {
    std::atomic<long> waited_ms = 0;
    auto const all = errors_on_gpus(n, 700ms, [&](group& g, cudaStream_t stream) {
      nccl_communicator comm{g};
      device_array<float> x{1000};
      x.set(std::vector<float>(1000, 1.0f));
      cudaGraphExec_t exec = nullptr;
      if (replayed) {
        exec = capture(stream, [&] { allreduce_in_place(comm, x, 1000, Sum{}, stream); });
      }
      allreduce_in_place(comm, x, 1000, Sum{}, stream);
      comm.synchronize(stream);
      auto const begun = std::chrono::steady_clock::now();
      std::string caught;
      try {
        if (g.rank() == 1) {
          while (!g.me().aborted()) { std::this_thread::sleep_for(1ms); }
          comm.check();
        } else if (replayed) {
          cuda_check(cudaGraphLaunch(exec, stream), "replaying");
        } else {
          allreduce_in_place(comm, x, 1000, Sum{}, stream);
        }
        comm.synchronize(stream);
      } catch (...) {
        auto const took = std::chrono::steady_clock::now() - begun;
        waited_ms = std::max<long>(
          waited_ms, std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
        cuda_check(cudaStreamSynchronize(stream), "a kernel that was to leave");
        if (exec != nullptr) { cudaGraphExecDestroy(exec); }
        throw;
      }
    });
    for (auto const& e : all) {
      CAPTURE(e.what(), replayed);
      REQUIRE(e.code() == errc::timeout);
      if (!replayed) { REQUIRE(e.peer() == 1); }
    }
    REQUIRE(waited_ms >= 600);
    REQUIRE(waited_ms <= 1700);
  }
}

TEST_CASE("a rank that throws or leaves ends its peers' calls at once, and reset() mends all") {
  skip_unless(2);
  int const n = gpus();
  notes found;
  auto const begun = std::chrono::steady_clock::now();
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    device_array<std::int32_t> x{100};
    x.set(std::vector<std::int32_t>(100, 1));
    try {
      nccl_communicator comm{g};
      allreduce_in_place(comm, x, 100, Sum{}, stream);
      comm.synchronize(stream);
      if (g.rank() == 0) {
        g.abort(errc::rank_failed, "gives up");
      } else {
        allreduce_in_place(comm, x, 100, Sum{}, stream);
      }
      comm.synchronize(stream);
      found.add("no error");
    } catch (error const& e) {
      if (e.code() != errc::rank_failed || e.peer() != 0) { found.add(e.what()); }
    }
    cuda_check(cudaStreamSynchronize(stream), "a kernel that was to leave");
    g.reset();
    nccl_communicator comm{g};
    for (int i = 0; i < 1000; ++i) { allreduce_in_place(comm, x, 100, Max{}, stream); }
    comm.synchronize(stream);
    x.set(std::vector<std::int32_t>(100, g.rank()));
    allreduce_in_place(comm, x, 100, Sum{}, stream);
    comm.synchronize(stream);
    if (x.get(found, "after reset").front() != n * (n - 1) / 2) { found.add("wrong after reset"); }
  });
  REQUIRE(found.all() == "");
  REQUIRE(std::chrono::steady_clock::now() - begun < 50s);

  auto const all = errors_on_gpus(n, 40s, [&](group& g, cudaStream_t stream) {
    nccl_communicator comm{g};
    device_array<float> x{100};
    if (g.rank() == 1) {
      g.leave();
      return;
    }
    allreduce_in_place(comm, x, 100, Sum{}, stream);
    comm.synchronize(stream);
  });
  for (int r = 0; r < n; ++r) {
    auto const& e = all[static_cast<std::size_t>(r)];
    CAPTURE(r, e.what());
    REQUIRE(e.code() == (r == 1 ? errc::ok : errc::left));
    if (r != 1) { REQUIRE(e.peer() == 1); }
  }
}

TEST_CASE("without a group a stall is an error of the communicator alone") {
  skip_unless(2);
  int const n = gpus();
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  auto const all = errors_on_gpus(n, 20s, [&](group& g, cudaStream_t stream) {
    ncclComm_t callers = nullptr;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (ncclCommInitRankConfig(&callers, n, id, g.rank(), &config) != ncclSuccess) {
      throw error{errc::nccl, "no communicator"};
    }
    nccl_communicator comm{callers, {}, {.deadline = 500ms}};
    device_array<float> x{100};
    if (g.rank() != 1) {
      allreduce_in_place(comm, x, 100, Sum{}, stream);
      try {
        comm.synchronize(stream);
      } catch (...) {
        cuda_check(cudaStreamSynchronize(stream), "a kernel that was to leave");
        throw;
      }
    } else {
      std::this_thread::sleep_for(1500ms);
    }
  });
  for (int r = 0; r < n; ++r) {
    auto const& e = all[static_cast<std::size_t>(r)];
    CAPTURE(r, e.what());
    REQUIRE(e.code() == (r == 1 ? errc::ok : errc::timeout));
  }
}

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
TEST_CASE("arrays in symmetric windows give the same sums") {
  skip_unless(1);
  notes found;
  int const n = gpus();
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    nccl_communicator comm{g};
    std::size_t const size = 100'000;
    nccl_buffer in{size * 4};
    nccl_buffer out{size * 4};
    auto const first = comm.register_buffer(in.data(), in.bytes());
    auto const second = comm.register_buffer(out.data(), out.bytes());
    auto const mine = std::vector<float>(size, static_cast<float>(g.rank() + 1));
    cuda_check(cudaMemcpy(in.data(), mine.data(), size * 4, cudaMemcpyHostToDevice), "copying");
    cuda_check(cudaStreamSynchronize(nullptr), "copying");
    comm.allreduce(tpx::detail::describe<float>(collective::allreduce, size, Sum::code),
                   static_cast<float const*>(in.data()), static_cast<float*>(out.data()), size,
                   Sum{}, no_epilogue{}, stream);
    comm.synchronize(stream);
    std::vector<float> got(size);
    cuda_check(cudaMemcpy(got.data(), out.data(), size * 4, cudaMemcpyDeviceToHost), "copying");
    for (float const v : got) {
      if (v != static_cast<float>(n * (n + 1) / 2)) {
        found.add("a sum is " + std::to_string(v));
        break;
      }
    }
  });
  REQUIRE(found.all() == "");
}
#endif

TEST_CASE("the memory of a communicator on NCCL is known beforehand and bounded") {
  REQUIRE(nccl_communicator::bytes_needed(8) < 10'000'000);
  REQUIRE(nccl_communicator::bytes_needed(2, {.max_bytes = 1}) < 100'000);
}
