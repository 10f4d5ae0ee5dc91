// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Broadcast, gather, allgather, reduce_scatter and barrier on GPUs: the tests of the Cpu space.
#include "gpus.cuh"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cuda/atomic>

#include <atomic>

namespace {

using namespace gpus;

using all_communicators =
  std::tuple<communicator<PeerDirect, Auto>, communicator<PeerDirect, Ring>,
             communicator<PeerDirect, Tree>, communicator<HostPinned, Auto>,
             communicator<HostPinned, Ring>, communicator<HostPinned, Tree>>;

template <class Comm>
using twin_of = communicator<HostPinned, typename Comm::topology_type, Cpu>;

/// A plan of a test's own: any ranges for any split.
struct ranges {
  std::vector<std::pair<std::size_t, std::size_t>> of_rank;
  struct range_t {
    std::size_t begin, end;
  };
  template <class Split>
  [[nodiscard]] range_t range(int rank) const {
    auto const [b, e] = of_rank[static_cast<std::size_t>(rank)];
    return {b, e};
  }
};

/// One plan for the vocabulary split and another for the rest.
struct two_plans {
  ranges source, target;
  template <class Split>
  [[nodiscard]] ranges::range_t range(int rank) const {
    return (std::is_same_v<Split, split::Vc> ? source : target).template range<Split>(rank);
  }
};

/// Cuts `total` into n uneven ranges, some of them empty.
ranges uneven(std::size_t total, int n, unsigned seed) {
  ranges plan;
  std::size_t at = 0;
  for (int r = 0; r < n; ++r) {
    std::size_t const left = total - at;
    auto const pick = static_cast<std::size_t>(value<std::uint16_t>(r, seed, 17));
    std::size_t const size = r + 1 == n ? left : (pick % 4 == 0 ? 0 : pick % (left / 2 + 1));
    plan.of_rank.emplace_back(at, at + size);
    at += size;
  }
  return plan;
}

template <class T>
std::vector<T> values(std::size_t n, int rank, unsigned salt) {
  std::vector<T> x(n);
  for (std::size_t i = 0; i < n; ++i) { x[i] = value<T>(rank, i, salt); }
  return x;
}

template <class T>
bool holds(std::span<T const> x, int rank, unsigned salt) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!same_bits(x[i], value<T>(rank, i, salt))) { return false; }
  }
  return true;
}

/// What the body of a sweep works with.
template <class Comm>
struct bench {
  Comm& comm;
  twin_of<Comm>& twin;  // with the same slots, where the options' are the smallest
  arena& memory;
  cudaStream_t stream;
  notes& found;

  void add(std::string const& what) const {
    found.add(what + " on rank " + std::to_string(comm.rank()) + " of " +
              std::to_string(comm.size()));
  }
  template <class T>
  [[nodiscard]] guarded_array<T> array(std::size_t n, std::size_t offset) const {
    return {memory, n, offset, stream};
  }
  /// The elements after all work; notes a changed guard.
  template <class T>
  [[nodiscard]] std::vector<T> get(guarded_array<T> const& x) const {
    bool intact = true;
    auto all = x.get(stream, intact);
    if (!intact) { add("wrote outside an array"); }
    return all;
  }
};

/// Runs body(bench, T{}, size, offset, salt) for every world size, type, size and alignment.
template <class Comm, class F>
void sweep(notes& found, F body) {
  for (int const n : worlds()) {
    for (std::size_t const max_bytes : {std::size_t{1024}, std::size_t{8} << 20}) {
      on_gpus(n, [&](group& g, cudaStream_t stream) {
        arena memory{std::size_t{16} << 20};
        Comm comm{g, fitting(n, {.max_bytes = max_bytes})};
        twin_of<Comm> twin{g, {.max_bytes = 1024}};
        bench<Comm> const b{comm, twin, memory, stream, found};
        unsigned salt = 0;
        auto const all = [&](auto type) {
          for (std::size_t const size : {0, 1, 2, 7, 8, 127, 1000, reduced() ? 3000 : 65537}) {
            for (std::size_t const offset : {std::size_t{0}, std::size_t{1}}) {
              memory.clear();
              body(b, type, size, offset, ++salt);
            }
          }
        };
        all(float{});
        all(std::int8_t{});
      });
    }
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("broadcast gives every GPU the root's values", "[cuda]",
                        all_communicators) {
  NEED_GPUS(1);
  notes found;
  sweep<TestType>(
    found, [](auto const& b, auto type, std::size_t n, std::size_t offset, unsigned salt) {
      using T = decltype(type);
      int const root = static_cast<int>(salt) % b.comm.size();
      auto const x = b.template array<T>(n, offset + static_cast<std::size_t>(b.comm.rank() % 3));
      if (b.comm.rank() == root) { x.put(values<T>(n, root, salt), b.stream); }
      broadcast(b.comm, x.span(), root, b.stream);
      settle(b.comm, b.stream);
      auto const got = b.get(x);
      if (!holds<T>(got, root, salt)) { b.add("wrong values from root " + std::to_string(root)); }
    });
  REQUIRE(found.all() == "");
}

TEMPLATE_LIST_TEST_CASE("allgather gives every GPU all values in rank order", "[cuda]",
                        all_communicators) {
  NEED_GPUS(1);
  notes found;
  sweep<TestType>(found,
                  [](auto const& b, auto type, std::size_t n, std::size_t offset, unsigned salt) {
                    using T = decltype(type);
                    auto const ranks = static_cast<std::size_t>(b.comm.size());
                    auto const me = static_cast<std::size_t>(b.comm.rank());
                    auto const in = b.template array<T>(n, offset);
                    auto const out = b.template array<T>(n * ranks, 2 - offset);
                    in.put(values<T>(n, b.comm.rank(), salt), b.stream);
                    if (salt % 2 == 0) {
                      allgather(b.comm, in.span(), out.span(), b.stream);
                    } else {
                      auto const mine = out.span().subspan(me * n, n);
                      cuda_check(cudaMemcpyAsync(mine.data(), in.span().data(), mine.size_bytes(),
                                                 cudaMemcpyDeviceToDevice, b.stream),
                                 "copying");
                      allgather(b.comm, mine, out.span(), b.stream);
                    }
                    settle(b.comm, b.stream);
                    auto const got = b.get(out);
                    static_cast<void>(b.get(in));
                    for (std::size_t r = 0; r < ranks; ++r) {
                      if (!holds<T>(std::span{got}.subspan(r * n, n), static_cast<int>(r), salt)) {
                        b.add("wrong values of rank " + std::to_string(r));
                      }
                    }
                  });
  REQUIRE(found.all() == "");
}

TEMPLATE_LIST_TEST_CASE("gather gives the root's GPU all values in rank order", "[cuda]",
                        all_communicators) {
  NEED_GPUS(1);
  notes found;
  sweep<TestType>(found,
                  [](auto const& b, auto type, std::size_t n, std::size_t offset, unsigned salt) {
                    using T = decltype(type);
                    auto const ranks = static_cast<std::size_t>(b.comm.size());
                    int const root = static_cast<int>(salt) % b.comm.size();
                    bool const am_root = b.comm.rank() == root;
                    auto const in = b.template array<T>(n, offset);
                    auto const out = b.template array<T>(am_root ? n * ranks : 0, 1 - offset);
                    in.put(values<T>(n, b.comm.rank(), salt), b.stream);
                    gather(b.comm, in.span(), out.span(), root, b.stream);
                    settle(b.comm, b.stream);
                    auto const got = b.get(out);
                    static_cast<void>(b.get(in));
                    for (std::size_t r = 0; r < ranks && am_root; ++r) {
                      if (!holds<T>(std::span{got}.subspan(r * n, n), static_cast<int>(r), salt)) {
                        b.add("wrong values of rank " + std::to_string(r));
                      }
                    }
                  });
  REQUIRE(found.all() == "");
}

TEMPLATE_LIST_TEST_CASE("reduce_scatter leaves each GPU the bits that the CPU's leaves", "[cuda]",
                        all_communicators) {
  NEED_GPUS(1);
  notes found;
  sweep<TestType>(
    found, [](auto const& b, auto type, std::size_t n, std::size_t offset, unsigned salt) {
      using T = decltype(type);
      n = std::min<std::size_t>(n, 8193);
      auto const ranks = static_cast<std::size_t>(b.comm.size());
      auto const in = b.template array<T>(n * ranks, offset);
      auto const out = b.template array<T>(n, 1 - offset);
      auto const mine = values<T>(n * ranks, b.comm.rank(), salt);
      in.put(mine, b.stream);
      auto const base = static_cast<std::size_t>(b.comm.rank()) * n;
      bool const in_place = salt % 2 != 0;
      auto const result = in_place ? in.span().subspan(base, n) : out.span();
      reduce_scatter(b.comm, in.span(), result, Sum{}, no_epilogue{}, b.stream);
      settle(b.comm, b.stream);
      auto const left = b.get(in);
      auto const right = b.get(out);
      std::vector<T> wanted(n);
      reduce_scatter(b.twin, mine, wanted);
      for (std::size_t i = 0; i < n; ++i) {
        T const got = in_place ? left[base + i] : right[i];
        if (!same_bits(got, wanted[i])) {
          b.add("element " + std::to_string(i) + " of " + std::to_string(n) + " is wrong");
          break;
        }
      }
    });
  REQUIRE(found.all() == "");
}

TEMPLATE_LIST_TEST_CASE("strided columns by uneven splits go where the plan says on GPUs", "[cuda]",
                        all_communicators) {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      arena memory{std::size_t{4} << 20};
      TestType comm{g, fitting(n, {.max_bytes = 1024})};
      twin_of<TestType> twin{g, {.max_bytes = 1024}};
      bench<TestType> const bench{comm, twin, memory, stream, found};
      int const me = comm.rank();
      for (unsigned seed = 0; seed < 6; ++seed) {
        memory.clear();
        std::size_t const units = 1 + seed * 7;
        std::size_t const dim = seed % 3 + 1;
        std::size_t const width = units * dim;
        std::size_t const rows = seed == 5 ? 120 : seed % 4;
        auto const plan = uneven(units, n, seed);
        auto const [b, e] = plan.of_rank[static_cast<std::size_t>(me)];
        std::size_t const own = (e - b) * dim;
        matrix const m{.rows = rows, .dim = dim, .in_pitch = own + 3, .out_pitch = width + 5};
        auto const whole = [&](std::size_t row, std::size_t col) {
          return value<float>(1000, row * width + col, seed);
        };
        std::vector<float> mine(rows * (own + 3));
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < own; ++c) { mine[r * (own + 3) + c] = whole(r, b * dim + c); }
        }
        std::vector<float> summed(rows * (width + 2));
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < width; ++c) {
            summed[r * (width + 2) + c] = static_cast<float>(me + 1) * static_cast<float>(r + c);
          }
        }
        int const root = static_cast<int>(seed) % n;
        two_plans const both{plan, uneven(width, n, seed + 100)};
        auto const [tb, te] = both.target.of_rank[static_cast<std::size_t>(me)];
        auto const in = bench.template array<float>(mine.size(), 1);
        auto const out = bench.template array<float>(rows * (width + 5), 0);
        auto const all = bench.template array<float>(rows * (width + 5), 0);
        auto const also = bench.template array<float>(rows * (width + 5), 0);
        auto const cut = bench.template array<float>(rows * (te - tb), 2);
        auto const full = bench.template array<float>(summed.size(), 0);
        auto const part = bench.template array<float>(rows * own, 1);
        in.put(mine, stream);
        full.put(summed, stream);

        gather<split::Vc>(comm, plan, in.span(), out.span(), m, root, stream);
        allgather<split::Vc>(comm, plan, in.span(), all.span(), m, stream);
        gather<split::Vc, split::All>(comm, plan, in.span(), also.span(), m, stream);
        gather<split::Vc, split::Id>(
          comm, both, in.span(), cut.span(),
          {.rows = rows, .dim = dim, .in_pitch = own + 3, .target_dim = 1}, stream);
        reduce_scatter<split::Vc>(comm, plan, full.span(), part.span(),
                                  {.rows = rows, .dim = dim, .in_pitch = width + 2}, Sum{},
                                  no_epilogue{}, stream);
        settle(comm, stream);

        auto const look = [&](guarded_array<float> const& x, std::size_t from, std::size_t cols,
                              std::size_t pitch, bool holds_all, char const* what) {
          auto const got = bench.get(x);
          for (std::size_t r = 0; r < rows && holds_all; ++r) {
            for (std::size_t c = 0; c < cols; ++c) {
              if (got[r * pitch + c] != whole(r, from + c)) {
                bench.add(std::string{what} + " put a wrong value at row " + std::to_string(r));
                return;
              }
            }
          }
        };
        look(out, 0, width, width + 5, me == root, "gather");
        look(all, 0, width, width + 5, true, "allgather");
        look(also, 0, width, width + 5, true, "gather to all");
        look(cut, tb, te - tb, te - tb, true, "redistribution");
        auto const sums = bench.get(part);
        for (std::size_t i = 0; i < sums.size(); ++i) {
          float const expected =
            static_cast<float>(n * (n + 1) / 2) * static_cast<float>(i / own + b * dim + i % own);
          if (sums[i] != expected) {
            bench.add("reduce_scatter put a wrong value at " + std::to_string(i));
            break;
          }
        }
        static_cast<void>(bench.get(in));
        static_cast<void>(bench.get(full));
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("captured movement is right in every replay, between eager calls", "[cuda]") {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      arena memory{std::size_t{16} << 20};
      counters const count{memory, stream};
      auto const ranks = static_cast<std::size_t>(n);
      auto const me = static_cast<std::size_t>(g.rank());
      constexpr std::size_t most = 20011;
      auto const in = memory.array<float>(most * ranks);
      auto const out = memory.array<float>(most * ranks);
      communicator<PeerDirect, Auto> peer{g, fitting(n)};
      communicator<HostPinned, Ring> host{g, fitting(n, {.max_bytes = 4096})};
      auto const all = [&](auto& comm, salted salt, std::size_t size) {
        auto const x = in.first(size);
        auto const y = out.first(size * ranks);
        auto const poison = [&](std::span<float> array) {
          cuda_check(cudaMemsetAsync(array.data(), 0xa5, array.size_bytes(), stream), "poisoning");
        };
        int const root = static_cast<int>(size) % n;
        poison(y);
        fill(x, g.rank(), salt, stream);
        allgather(comm, x, y, stream);
        for (std::size_t r = 0; r < ranks; ++r) {
          auto const rank = static_cast<int>(r);
          check(y.subspan(r * size, size), rank, rank + 1, salt, count.wrong(), stream);
        }
        poison(y);
        gather(comm, x, y, root, stream);
        for (std::size_t r = 0; r < ranks && g.rank() == root; ++r) {
          auto const rank = static_cast<int>(r);
          check(y.subspan(r * size, size), rank, rank + 1, salt, count.wrong(), stream);
        }
        if (g.rank() != root) { poison(x); }
        broadcast(comm, x, root, stream);
        check(x, root, root + 1, salt, count.wrong(), stream);
        barrier(comm, stream);
        fill(y, g.rank(), salt, stream);
        poison(x);
        reduce_scatter(comm, y, x, Sum{}, no_epilogue{}, stream);
        check(x, 0, n, salt, count.wrong(), stream, me * size);
      };
      auto const both = [&](salted salt) {
        for (std::size_t const size : {std::size_t{1}, std::size_t{999}, most}) {
          all(peer, salt, size);
          all(host, salt, size);
          ++salt.k;
        }
      };
      std::uint64_t eager = std::uint64_t{1} << 40;
      both({.k = eager});
      settle(peer, stream);
      g.exchange(1);
      graph const replayed{stream, [&] {
                             both({count.base(), 0});
                             grow<<<1, 1, 0, stream>>>(count.base(), std::uint64_t{4});
                           }};
      g.exchange(2);
      for (int i = 0; i < (reduced() ? 5 : 50); ++i) {
        replayed.launch(stream);
        both({.k = eager += 4});
        settle(peer, stream);
      }
      settle(host, stream);
      if (auto const wrong = count.read(stream); wrong != 0) {
        found.add(std::to_string(wrong) + " wrong elements on rank " + std::to_string(g.rank()));
      }
      g.exchange(3);
    });
  }
  REQUIRE(found.all() == "");
}

namespace {

using word_ref = cuda::atomic_ref<unsigned, cuda::thread_scope_system>;

/// Counts this rank's coming.
__global__ void come(unsigned* came, int rank) {
  word_ref const mine{came[rank * 16]};
  mine.store(mine.load(cuda::memory_order_relaxed) + 1, cuda::memory_order_relaxed);
}

/// Counts ranks that have come less often than this one.
__global__ void look_for_all(unsigned* came, int rank, int ranks, unsigned long long* wrong) {
  unsigned const mine = word_ref{came[rank * 16]}.load(cuda::memory_order_relaxed);
  for (int r = 0; r < ranks; ++r) {
    if (word_ref{came[r * 16]}.load(cuda::memory_order_relaxed) != mine) { atomicAdd(wrong, 1ull); }
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("no GPU leaves a barrier before all have come", "[cuda]",
                        all_communicators) {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      arena memory{std::size_t{1} << 20};
      counters const count{memory, stream};
      HostPinned::memory<Cuda> const page{g, 4096};
      auto* const came = reinterpret_cast<unsigned*>(page.window(0));
      TestType comm{g, fitting(n)};
      auto const round = [&](bool split) {
        come<<<1, 1, 0, stream>>>(came, g.rank());
        if (split) {
          split_barrier stage{comm, stream};
          stage.wait();
        } else {
          barrier(comm, stream);
        }
        look_for_all<<<1, 1, 0, stream>>>(came, g.rank(), n, count.wrong());
        barrier(comm, stream);
      };
      round(true);
      round(false);
      settle(comm, stream);
      g.exchange(1);
      graph const replayed{stream, [&] {
                             for (int i = 0; i < 10; ++i) { round(i % 2 == 0); }
                           }};
      g.exchange(2);
      for (int k = 0; k < (reduced() ? 2 : 20); ++k) {
        for (int i = 0; i < 10; ++i) { round(i % 2 == 0); }
        replayed.launch(stream);
        settle(comm, stream);
      }
      if (count.read(stream) != 0) { found.add("a rank was not there"); }
      g.exchange(3);
    });
  }
  REQUIRE(found.all() == "");
}
