// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What threads of small tiles, as a GPU's are, move and fold by packets of 16 bytes, against plain
// loops over elements: any address, any rows, any length.
#include <tpx/op.hpp>
#include <tpx/protocol/fold.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace {

/// One of several threads of a channel, which are run one after the other.
template <unsigned Tile>
struct thread_of {
  unsigned me;
  unsigned all_of_them;

  static constexpr unsigned tile = Tile;
  [[nodiscard]] unsigned thread_rank() const { return me; }
  [[nodiscard]] unsigned size() const { return all_of_them; }
  [[nodiscard]] static unsigned channel() { return 1; }
  [[nodiscard]] static unsigned channels() { return 4; }
  static void sync() {}
  [[nodiscard]] static bool all(bool ok) { return ok; }
  [[nodiscard]] static bool pause(unsigned, std::uint64_t&, tpx::goal, int) { return false; }
  static void ring(int) {}
  static void mismatch(int, std::uint64_t) {}
};
using small = thread_of<1>;

template <class F>
void for_threads(unsigned count, F f) {
  for (unsigned t = 0; t < count; ++t) { f(small{t, count}); }
}

/// Three bytes: no packet has a whole number of these.
struct triple {
  unsigned char byte[3];
};

template <class T>
struct matrix {
  std::vector<T> memory;
  tpx::block<T> cells;

  matrix(std::size_t rows, std::size_t cols, std::size_t gap, std::size_t offset)
      : memory(offset + rows * (cols + gap) + 1), cells{memory.data() + offset, cols, cols + gap} {}

  void fill(std::mt19937& random) {
    for (T& x : memory) {
      for (std::size_t i = 0; i < sizeof(T); ++i) {
        reinterpret_cast<unsigned char*>(&x)[i] = static_cast<unsigned char>(random());
      }
    }
  }
  [[nodiscard]] bool same(std::vector<T> const& other) const {
    return std::memcmp(memory.data(), other.data(), memory.size() * sizeof(T)) == 0;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("packets copy what elements would, and nothing beside it", "[queues]",
                   std::uint8_t, tpx::bfloat16, float, double, triple) {
  STATIC_REQUIRE(tpx::by_packets<small, TestType> == !std::is_same_v<TestType, triple>);
  STATIC_REQUIRE(!tpx::by_packets<thread_of<256>, TestType>);
  std::mt19937 random{1};
  for (int round = 0; round < 3000; ++round) {
    auto const pick = [&](std::size_t most) { return random() % (most + 1); };
    std::size_t const rows = 1 + pick(3);
    std::size_t const cols = 1 + pick(70);
    matrix<TestType> from{rows, cols, pick(2) * pick(9), pick(17)};
    matrix<TestType> to{rows, cols, pick(2) * pick(9), pick(17)};
    from.fill(random);
    to.fill(random);
    std::size_t const first = pick(rows * cols);
    std::size_t const n = pick(rows * cols - first);
    auto expected = to.memory;
    for (std::size_t i = first; i < first + n; ++i) {
      expected[static_cast<std::size_t>(to.cells.at(i) - to.memory.data())] = *from.cells.at(i);
    }
    tpx::block<TestType const> const source{from.cells.data, from.cells.cols, from.cells.pitch};
    if (pick(1) == 0) {
      for_threads(3, [&](auto const& t) { tpx::copy(t, source, to.cells, first, n); });
    } else {
      std::vector<TestType> message(n + 16);
      for_threads(3, [&](auto const& t) { tpx::pack(t, source, first, n, message.data()); });
      for_threads(3, [&](auto const& t) {
        tpx::unpack<small, TestType>(t, message.data(), to.cells, first, n);
      });
    }
    REQUIRE(to.same(expected));
  }
}

TEMPLATE_TEST_CASE("packets are folded to the bits that elements are", "[queues]", std::int8_t,
                   tpx::bfloat16, float, double) {
  using T = TestType;
  using W = tpx::accumulate_t<T>;
  constexpr std::size_t most = 300;
  tpx::window_layout const layout{.ranks = 3, .channels = 2, .slot_bytes = 4096};
  struct alignas(tpx::cache_line) line {
    std::byte bytes[tpx::cache_line];
  };
  std::vector<line> windows[3];
  tpx::wires w{};
  w.layout = layout;
  w.rank = 1;
  for (int r = 0; r < 3; ++r) {
    windows[r].resize(layout.bytes() / sizeof(line));
    w.window[r] = windows[r].front().bytes;
  }
  std::mt19937 random{2};
  for (int round = 0; round < 500; ++round) {
    auto const pick = [&](std::size_t up_to) { return random() % (up_to + 1); };
    auto const value = [&] { return static_cast<float>(pick(200)) / 8 - 12; };
    std::size_t const rows = 1 + pick(3);
    std::size_t const cols = 1 + pick(70);
    matrix<T> own{rows, cols, pick(2) * pick(9), pick(17)};
    matrix<T> out{rows, cols, pick(2) * pick(9), pick(17)};
    for (T& x : own.memory) { x = static_cast<T>(value()); }
    std::size_t const first = pick(rows * cols);
    std::size_t const n = pick(rows * cols - first);
    REQUIRE(n <= most);
    tpx::rank_set const from = static_cast<tpx::rank_set>(1 + pick(1) * 4);  // rank 0, or 0 and 2
    small const lone{0, 1};
    tpx::endpoint const e{lone, w};
    std::vector<W> theirs[3];
    for (int const r : {0, 2}) {
      for (std::size_t i = 0; i < n; ++i) { theirs[r].push_back(static_cast<W>(value())); }
      std::copy(theirs[r].begin(), theirs[r].end(), const_cast<W*>(e.in<W>(r)));
    }
    auto expected = out.memory;
    std::vector<W> passed(n);
    for (std::size_t i = 0; i < n; ++i) {
      W sum = theirs[0][i] + static_cast<W>(*own.cells.at(first + i));
      if ((from & 4) != 0) { sum = sum + theirs[2][i]; }
      passed[i] = sum;
      expected[static_cast<std::size_t>(out.cells.at(first + i) - out.memory.data())] =
        static_cast<T>(sum);
    }
    tpx::block<T const> const mine{own.cells.data, own.cells.cols, own.cells.pitch};
    for_threads(3, [&](auto const& t) {
      tpx::fold<W>(tpx::endpoint{t, w}, mine, first, n, from, tpx::lane::pair, tpx::Sum{},
                   tpx::finish<T, tpx::no_epilogue>{out.cells, first, first, {}});
      tpx::fold<W>(tpx::endpoint{t, w}, mine, first, n, from, tpx::lane::pair, tpx::Sum{},
                   tpx::pass_on<W>{e.out<W>(2)});
    });
    REQUIRE(out.same(expected));
    REQUIRE(std::equal(passed.begin(), passed.end(), e.out<W>(2)));
  }
}

TEST_CASE("a message is cut over all channels before one of them takes two turns", "[queues]") {
  small const one{0, 64};  // four channels of 64 threads, each with a packet of 8 elements
  auto const piece = [&](std::size_t n) { return tpx::piece_of<tpx::bfloat16>(one, n, 4096); };
  REQUIRE(piece(1) == 512);
  REQUIRE(piece(2048) == 512);
  REQUIRE(piece(2049) == 1024);
  REQUIRE(piece(16384) == 4096);
  REQUIRE(piece(1 << 20) == 4096);
}
