// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// All-reduces on GPUs against those of the Cpu space: the same bits for the same order of addition.
#include "gpus.cuh"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>

namespace {

using namespace gpus;

using all_communicators =
  std::tuple<communicator<PeerDirect, Auto>, communicator<PeerDirect, Ring>,
             communicator<PeerDirect, Tree>, communicator<HostPinned, Auto>,
             communicator<HostPinned, Ring>, communicator<HostPinned, Tree>>;

/// The Cpu space's communicator of the same topology.
template <class Comm>
using twin_of = communicator<HostPinned, typename Comm::topology_type, Cpu>;

struct way {
  char const* name;
  communicator_options options;
  bool smallest;  // both spaces have slots of 1 KiB: Ring's shares are the same
};

/// As users have it; and every path for small messages too: one shot or two, at once or streamed.
std::vector<way> ways(int n) {
  std::vector<way> all{
    {"default", {}, false},
    {"two shots, streamed",
     {.max_bytes = 1024, .tune = {.one_shot_bytes = 1, .most_blocks = 2, .stream_blocks = 2}},
     true},
    {"one shot, streamed",
     {.max_bytes = 1024,
      .tune = {.one_shot_bytes = std::size_t{1} << 40, .most_blocks = 3, .stream_blocks = 3}},
     true}};
  for (auto& w : all) { w.options = fitting(n, w.options); }
  return all;
}

std::vector<std::size_t> lengths() {
  if (reduced()) { return {0, 1, 7, 8, 127, 1000, 9001}; }
  return {0, 1, 2, 7, 8, 127, 1000, 65537};
}

/// Whether v is what some share of a ring gives: begun by rank r-1, then r-2, ..., last r.
template <class T>
bool of_a_ring(T v, std::size_t i, int n, unsigned salt) {
  using A = accumulate_t<T>;
  for (int root = 0; root < n; ++root) {
    auto sum = static_cast<A>(value<T>((root + n - 1) % n, i, salt));
    for (int k = 2; k <= n; ++k) {
      sum = Sum{}(sum, static_cast<A>(value<T>((root + 2 * n - k) % n, i, salt)));
    }
    if (same_bits(v, static_cast<T>(sum))) { return true; }
  }
  return false;
}

/// One call on the GPUs and the same on the CPU. "" if every bit is the same.
template <class T, class Comm, class Twin>
std::string compare(Comm& comm, Twin& twin, arena& memory, cudaStream_t stream, std::size_t size,
                    std::size_t offset, bool in_place, bool smallest, unsigned salt) {
  memory.clear();
  guarded_array<T> const in{memory, size, offset, stream};
  guarded_array<T> const out{memory, size, 3 - offset, stream};
  std::vector<T> x(size);
  for (std::size_t i = 0; i < size; ++i) { x[i] = value<T>(comm.rank(), i, salt); }
  in.put(x, stream);
  if (in_place) {
    allreduce(comm, in.span(), Sum{}, stream);
  } else {
    allreduce(comm, in.span(), out.span(), Sum{}, stream);
  }
  settle(comm, stream);
  bool intact = true;
  auto const left = in.get(stream, intact);
  auto const right = out.get(stream, intact);
  auto const& result = in_place ? left : right;
  auto wanted = x;
  allreduce(twin, wanted);
  constexpr bool ring = std::is_same_v<typename Comm::topology_type, Ring>;
  std::string const where = " of " + std::to_string(size) + ' ' + std::string{name(dtype_of<T>())} +
                            " on rank " + std::to_string(comm.rank()) + " of " +
                            std::to_string(comm.size());
  for (std::size_t i = 0; i < size; ++i) {
    bool const right_bits = ring && !smallest ? of_a_ring(result[i], i, comm.size(), salt)
                                              : same_bits(result[i], wanted[i]);
    if (!right_bits) {
      return "element " + std::to_string(i) + where + (in_place ? ", in place" : "") + ": " +
             std::to_string(as_double(result[i])) + " and not " +
             std::to_string(as_double(wanted[i]));
    }
    if (!in_place && !same_bits(left[i], x[i])) { return "the input was changed" + where; }
  }
  return intact ? "" : "wrote outside an array" + where;
}

template <class F>
void for_some_types(F&& f) {
  f(float{});
  f(bfloat16{});
  f(double{});
  f(std::int8_t{});
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("an all-reduce on GPUs gives the bits of the CPU's, wherever arrays lie",
                        "[cuda]", all_communicators) {
  NEED_GPUS(1);
  notes found;
  std::atomic<long> calls = 0;
  for (int const n : worlds()) {
    for (auto const& w : ways(n)) {
      on_gpus(n, [&](group& g, cudaStream_t stream) {
        arena memory{std::size_t{8} << 20};
        TestType comm{g, w.options};
        twin_of<TestType> twin{
          g, {.max_bytes = w.smallest ? std::size_t{1024} : std::size_t{8} << 20}};
        unsigned salt = 0;
        for_some_types([&]<class T>(T) {
          for (std::size_t const size : lengths()) {
            for (std::size_t const offset : {std::size_t{0}, std::size_t{1}}) {
              for (bool const in_place : {true, false}) {
                auto const wrong = compare<T>(comm, twin, memory, stream, size, offset, in_place,
                                              w.smallest, ++salt);
                if (!wrong.empty()) { found.add(std::string{w.name} + ": " + wrong); }
                ++calls;
              }
            }
          }
        });
      });
    }
  }
  REQUIRE(found.all() == "");
  REQUIRE(calls > 0);
}

TEMPLATE_LIST_TEST_CASE("an all-reduce of megabytes gives the bits of the CPU's", "[cuda]",
                        all_communicators) {
  NEED_GPUS(1);
  if (reduced()) { SKIP("reduced"); }
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      arena memory{std::size_t{64} << 20};
      TestType comm{g, fitting(n)};
      twin_of<TestType> twin{g};
      unsigned salt = 1000;
      for (std::size_t const size :
           {std::size_t{300'001}, std::size_t{1} << 20, std::size_t{3'000'003}}) {
        for (std::size_t const offset : {std::size_t{0}, std::size_t{3}}) {
          bool const in_place = offset == 0;
          found.add(
            compare<bfloat16>(comm, twin, memory, stream, size, offset, in_place, false, ++salt));
          found.add(
            compare<float>(comm, twin, memory, stream, size, offset, !in_place, false, ++salt));
        }
      }
    });
  }
  auto const& all = found.all();
  REQUIRE(all.substr(std::min(all.find_first_not_of('\n'), all.size())) == "");
}

TEMPLATE_LIST_TEST_CASE("captured all-reduces give right sums in every replay, between eager ones",
                        "[cuda]", all_communicators) {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      std::size_t const sizes[]{1, 7, 1000, 65537,
                                reduced() ? std::size_t{8} : std::size_t{1'000'003}};
      arena memory{std::size_t{16} << 20};
      counters const count{memory, stream};
      auto const in = memory.array<float>(1'000'003);
      auto const out = memory.array<float>(1'000'003);
      TestType comm{g, fitting(n)};
      constexpr std::uint64_t salts = 8;  // of one run through all sizes
      auto const all = [&](salted salt) {
        for (std::size_t const size : sizes) {
          auto const x = in.first(size);
          auto const y = salt.k % 2 == 0 ? out.first(size) : x;
          cuda_check(cudaMemsetAsync(out.data(), 0xa5, size * sizeof(float), stream), "poisoning");
          fill(x, comm.rank(), salt, stream);
          allreduce(comm, x, y, Sum{}, stream);
          check(y, 0, n, salt, count.wrong(), stream);
          ++salt.k;
        }
      };
      std::uint64_t eager = std::uint64_t{1} << 40;
      all({.k = eager});
      settle(comm, stream);
      graph const replayed{stream, [&] {
                             all({count.base(), 0});
                             grow<<<1, 1, 0, stream>>>(count.base(), salts);
                           }};
      g.exchange(1);
      for (int i = 0; i < (reduced() ? 5 : 50); ++i) {
        replayed.launch(stream);
        if (i % 3 == 2) { replayed.launch(stream); }
        all({.k = eager += salts});
        if (shared(n)) { settle(comm, stream); }
      }
      settle(comm, stream);
      auto const wrong = count.read(stream);
      if (wrong != 0) {
        found.add(std::to_string(wrong) + " wrong elements on rank " + std::to_string(g.rank()) +
                  " of " + std::to_string(n));
      }
      g.exchange(2);
    });
  }
  REQUIRE(found.all() == "");
}

namespace {

/// A user's own element and operation: the larger value and where it is.
struct where {
  float value;
  std::int32_t index;
};

struct larger {
  TPX_HD where operator()(where a, where b) const {
    return a.value > b.value || (a.value == b.value && a.index < b.index) ? a : b;
  }
};

/// Keeps what comes first: not commutative.
struct first {
  static constexpr bool commutative = false;
  template <class A>
  TPX_HD A operator()(A a, A) const {
    return a;
  }
};

/// An operation that no other test uses: its kernel is not loaded when it is captured.
struct twice_the_larger {
  template <class A>
  TPX_HD A operator()(A a, A b) const {
    return 2 * (a > b ? a : b);
  }
};

}  // namespace

TEST_CASE("a user's element and operation run on GPUs as they do on the CPU", "[cuda]") {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      arena memory{std::size_t{4} << 20};
      communicator<HostPinned, Auto> host{g, fitting(n)};
      communicator<HostPinned, Auto, Cpu> twin{g};
      for (std::size_t const size : {std::size_t{3}, std::size_t{9000}}) {
        memory.clear();
        std::vector<where> best(size);
        std::vector<std::int32_t> ranks(size, g.rank() + 100);
        for (std::size_t i = 0; i < size; ++i) {
          best[i] = {std::floor(value<float>(g.rank(), i, 4)), g.rank()};
        }
        guarded_array<where> const x{memory, size, 0, stream};
        guarded_array<std::int32_t> const y{memory, size, 1, stream};
        x.put(best, stream);
        y.put(ranks, stream);
        allreduce(host, x.span(), larger{}, stream);
        allreduce(host, y.span(), first{}, stream);
        settle(host, stream);
        allreduce(twin, best, larger{});
        bool intact = true;
        auto const got = x.get(stream, intact);
        auto const kept = y.get(stream, intact);
        for (std::size_t i = 0; i < size; ++i) {
          if (!same_bits(got[i], best[i])) { found.add("another element"); }
          if (kept[i] != 100) { found.add("not rank 0's value"); }
        }
        if (!intact) { found.add("wrote outside an array"); }
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("the residual epilogue gives the bits of the CPU's, in two streams' turns", "[cuda]") {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      arena memory{std::size_t{4} << 20};
      communicator<PeerDirect, Auto> comm{g, fitting(n)};
      communicator<HostPinned, Auto, Cpu> twin{g};
      tpx::detail::private_stream const other;
      unsigned salt = 0;
      for (std::size_t const size : {std::size_t{1}, std::size_t{100}, std::size_t{65537}}) {
        ++salt;
        auto const s = salt % 2 == 0 ? other.get() : stream;
        memory.clear();
        guarded_array<bfloat16> const x{memory, size, salt, s};
        guarded_array<bfloat16> const residual{memory, size, 0, s};
        std::vector<bfloat16> mine(size);
        std::vector<bfloat16> sums(size);
        for (std::size_t i = 0; i < size; ++i) {
          mine[i] = value<bfloat16>(g.rank(), i, salt);
          sums[i] = value<bfloat16>(99, i, salt);
        }
        x.put(mine, s);
        residual.put(sums, s);
        allreduce(comm, x.span(), residual.span(), Sum{}, add_residual{residual.span().data()}, s);
        settle(comm, s);
        allreduce(twin, mine, sums, Sum{}, add_residual{sums.data()});
        bool intact = true;
        auto const got = residual.get(s, intact);
        for (std::size_t i = 0; i < size; ++i) {
          if (!same_bits(got[i], sums[i])) {
            found.add("element " + std::to_string(i) + " of " + std::to_string(size));
            break;
          }
        }
        if (!intact) { found.add("wrote outside an array"); }
      }
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("a collective may be captured before it was ever called", "[cuda]") {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      arena memory{std::size_t{1} << 20};
      communicator<HostPinned, Tree> comm{g, fitting(n)};
      guarded_array<float> const x{memory, 500, 0, stream};
      std::vector<float> const mine(500, 1.0f);
      x.put(mine, stream);
      sync(stream);
      graph const once{stream, [&] { allreduce(comm, x.span(), twice_the_larger{}, stream); }};
      g.exchange(1);
      once.launch(stream);
      settle(comm, stream);
      bool intact = true;
      auto const got = x.get(stream, intact);
      for (float const v : got) {
        if ((n == 1) != (v == 1.0f) || !intact) {
          found.add("wrong");
          break;
        }
      }
      g.exchange(2);
    });
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("a gigabyte is added right", "[.][cuda][long]") {
  if (count() < 2) { SKIP("needs two GPUs"); }
  int const n = job() ? job()->size : count();
  notes found;
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    constexpr std::size_t size = (std::size_t{1} << 29) + 1;
    arena memory{(size * sizeof(bfloat16) + 4096) * 2};
    counters const count{memory, stream};
    auto const in = memory.array<bfloat16>(size);
    auto const out = memory.array<bfloat16>(size);
    auto const run = [&](auto& comm, std::uint64_t salt) {
      fill(in, g.rank(), {.k = salt}, stream);
      cuda_check(cudaMemsetAsync(out.data(), 0xa5, out.size_bytes(), stream), "poisoning");
      allreduce(comm, in, out, Sum{}, stream);
      check(out, 0, n, {.k = salt}, count.wrong(), stream);
      allreduce(comm, in, Sum{}, stream);
      check(in, 0, n, {.k = salt}, count.wrong(), stream);
      settle(comm, stream);
      if (count.read(stream) != 0) { found.add("wrong sums, case " + std::to_string(salt)); }
      g.exchange(salt);
    };
    communicator<PeerDirect, Auto> peer{g};
    run(peer, 1);
    communicator<HostPinned, Auto> host{g};
    run(host, 2);
    communicator<PeerDirect, Ring> ring{g};
    run(ring, 3);
  });
  REQUIRE(found.all() == "");
}
