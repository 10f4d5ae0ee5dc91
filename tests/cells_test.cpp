// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The protocols over cells, which GPUs use, on CPU threads: where ThreadSanitizer sees them.
#include "world.hpp"

#include <tpx/protocol/pushed_allreduce.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

namespace {

using namespace world;

/// All ranks' windows with cells, on threads, and what a rank needs to run protocols on them.
class bench {
 public:
  explicit bench(int n)
      : layout_{.ranks = n, .channels = 1, .slot_bytes = 64, .area_cells = 64},
        memory_((layout_.bytes() * static_cast<std::size_t>(n)) / sizeof(chunk) + 1) {
    for (int r = 0; r < n; ++r) {
      std::memset(window(r) + layout_.cells_offset(0), cells::empty_byte, 4 * 64 * sizeof(cell));
    }
  }

  /// body(run): run(make) carries out the protocol make(wires) as one call of the rank.
  template <class Body>
  void operator()(int n, Body body) {
    on_ranks(n, [&](group& g) {
      wires w{};
      w.layout = layout_;
      w.at = cell_offsets{layout_};
      w.rank = g.rank();
      for (int p = 0; p < n; ++p) { w.window[p] = window(p); }
      host_waiter waiter{g.me(), calls_};
      body(g.rank(), [&](auto make) {
        call_signature const call{collective::allreduce};
        waiter.begin(call);
        w.signature = call.pack();
        make(w)(host_thread{&waiter});
        waiter.end();
      });
    });
  }

  /// Whether every cell is empty and no byte aside is left.
  [[nodiscard]] bool clean(int n) {
    for (int r = 0; r < n; ++r) {
      auto* const first = reinterpret_cast<cell*>(window(r) + layout_.cells_offset(0));
      for (int i = 0; i < 4 * 64; ++i) {
        if (cells::load(first[i]).word[3] != cells::nothing) { return false; }
        if (window(r)[layout_.asides_offset(0) + static_cast<std::size_t>(i)] != std::byte{0}) {
          return false;
        }
      }
    }
    return true;
  }

 private:
  struct alignas(cache_line) chunk {
    std::byte bytes[cache_line] = {};
  };

  std::byte* window(int r) {
    return reinterpret_cast<std::byte*>(memory_.data()) +
           layout_.bytes() * static_cast<std::size_t>(r);
  }

  window_layout layout_;
  std::vector<chunk> memory_;
  ledger calls_{};
};

/// Values that look like an empty or a masked cell among plain ones.
template <class T>
T awkward(int rank, std::size_t i, unsigned salt) {
  std::uint64_t const masks[]{0x8b8b8b8b8b8b8b8b, 0x8b8b8b8a8b8b8b8a};
  T v = value<T>(rank, i, salt);
  if ((i / per_packet<T> + static_cast<std::size_t>(rank)) % 3 == 0) {
    std::memcpy(&v, reinterpret_cast<char const*>(&masks[salt % 2]) + i * sizeof(T) % 4, sizeof(T));
  }
  return v;
}

template <class T, template <class> class Way, template <class, class, class, int> class Shots>
void check(int n, std::vector<std::size_t> const& sizes, notes& found) {
  bench b{n};
  b(n, [&](int rank, auto run) {
    unsigned salt = 0;
    for (std::size_t const size : sizes) {
      ++salt;
      guarded<T> in{size, salt % 4};
      guarded<T> out{size, salt % 3};
      for (std::size_t i = 0; i < size; ++i) { in.span()[i] = awkward<T>(rank, i, salt); }
      bool const in_place = salt % 2 == 0;
      auto const to = in_place ? in.span() : out.span();
      run([&](wires const& w) {
        using shots = Shots<T, Sum, no_epilogue, 8>;
        shots const s{{w, in.span().data(), to.data(), size, {}, {}}};
        return Way<shots>{s, s.packets()};
      });
      for (std::size_t i = 0; i < size; ++i) {
        auto sum = static_cast<accumulate_t<T>>(awkward<T>(0, i, salt));
        for (int r = 1; r < n; ++r) {
          sum = Sum{}(sum, static_cast<accumulate_t<T>>(awkward<T>(r, i, salt)));
        }
        if (!same_bits(to[i], static_cast<T>(sum))) {
          found.add("element " + std::to_string(i) + " of " + std::to_string(size) + " on rank " +
                    std::to_string(rank) + " of " + std::to_string(n));
          break;
        }
      }
      if (!in.intact() || !out.intact()) { found.add("wrote beyond the output"); }
    }
  });
  if (!b.clean(n)) { found.add("a cell was left full on " + std::to_string(n) + " ranks"); }
}

}  // namespace

TEMPLATE_TEST_CASE("all-reduces over cells add in rank order, whatever the bits", "[cells]", float,
                   bfloat16, double, std::int8_t) {
  notes found;
  for (int n = 1; n <= 8; ++n) {
    std::vector<std::size_t> const sizes{1, 5, 64, 3, 700, 1, 2, 129, 8, 1000};
    check<TestType, streamed, pushed_one_shot>(n, sizes, found);
    check<TestType, streamed, pushed_two_shot>(n, sizes, found);
    std::vector<std::size_t> const small{1, 4, 2, 8, 3, 3, 1, 8, 5, 7, 1, 1};
    check<TestType, at_once, pushed_one_shot>(n, small, found);
    check<TestType, at_once, pushed_two_shot>(n, small, found);
  }
  REQUIRE(found.all() == "");
}
