// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// How fast pages of a cache are copied on a GPU, and moved to and from the host:
// page_moves_bench. A CSV line for each shape of a cache, kind of list and number of copies:
// microseconds of a call (median of 15 runs of 20 calls), GB/s read and written, and that over what
// one cudaMemcpyAsync of as many bytes in one piece reaches, in the same run.
#include "device.cuh"

#include <tpx/cuda/paged_cache.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <vector>

namespace {

using bench::check_cuda;
using tpx::cache_plane;
using tpx::page_copy;
using tpx::page_id;

struct shape {
  char const* name;
  std::size_t page_size;
  std::size_t token_bytes;  // of a plane
  std::size_t planes;
  [[nodiscard]] std::size_t page_bytes() const { return page_size * token_bytes * planes; }
};

constexpr shape shapes[]{{"8 heads of 128 bf16 x 32 layers", 256, 2048, 64},
                         {"1 head of 128 bf16 x 80 layers", 256, 256, 160},
                         {"8 heads of 128 bf16 x 32 layers", 16, 2048, 64},
                         {"1 head of 128 bf16 x 32 layers", 16, 256, 64}};

/// Pages that do not lie side by side.
page_id scattered(std::size_t i, std::size_t pages) {
  return static_cast<page_id>(i * 37 % pages);
}

std::vector<page_copy> copies_of(char kind, std::size_t n, std::size_t pages, std::size_t tokens) {
  std::vector<page_copy> list;
  for (std::size_t i = 0; i < n; ++i) {
    auto const to = scattered(i, pages);
    list.push_back({scattered(kind == 'c' ? i + 1 : i + n, pages), to, tokens});
  }
  return list;
}

class timer {
 public:
  timer() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    check_cuda(cudaEventCreate(&begin_), "an event");
    check_cuda(cudaEventCreate(&end_), "an event");
  }
  timer(timer&&) = delete;
  ~timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }

  /// The median microseconds of a call; `last` after the calls of a run.
  template <class F, class G>
  double of(F const& call, G const& last) {
    constexpr int calls = 20;
    std::vector<double> all;
    for (int run = 0; run < 16; ++run) {  // the first warms up
      check_cuda(cudaEventRecord(begin_, stream_), "an event");
      for (int i = 0; i < calls; ++i) { call(); }
      last();
      check_cuda(cudaEventRecord(end_, stream_), "an event");
      check_cuda(cudaEventSynchronize(end_), "the copies");
      float ms = 0;
      check_cuda(cudaEventElapsedTime(&ms, begin_, end_), "an event");
      if (run > 0) { all.push_back(static_cast<double>(ms) * 1e3 / calls); }
    }
    std::nth_element(all.begin(), all.begin() + 7, all.end());
    return all[7];
  }
  template <class F>
  double of(F const& call) {
    return of(call, [] {});
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

void row(shape const& s, char const* what, std::size_t moves, std::size_t bytes, double us,
         double one_piece_us) {
  std::printf("%s,%zu,%zu,%zu,%s,%zu,%.2f,%.0f,%.2f,%.2f\n", s.name, s.page_size, s.planes,
              s.page_bytes(), what, moves, us, static_cast<double>(bytes) / us * 1e-3, one_piece_us,
              one_piece_us / us);
  std::fflush(stdout);
}

void measure(shape const& s, timer& clock) {
  std::size_t const plane_page = s.page_size * s.token_bytes;
  std::size_t const pages = std::min<std::size_t>(256, (std::size_t{10} << 30) / s.page_bytes());
  bench::device_memory const memory{pages * s.page_bytes()};
  auto* const first = static_cast<std::byte*>(memory.get());
  std::vector<cache_plane> planes;
  for (std::size_t i = 0; i < s.planes; ++i) {
    planes.push_back({first + i * pages * plane_page, plane_page, s.token_bytes});
  }
  tpx::page_copier const copier{planes, pages, s.page_size};
  for (std::size_t const moves : {1u, 2u, 4u, 16u, 64u}) {
    auto const one_piece = [&](std::size_t bytes) {
      return clock.of([&] {
        check_cuda(cudaMemcpyAsync(first, first + pages * s.page_bytes() / 2, bytes,
                                   cudaMemcpyDeviceToDevice, clock.stream()),
                   "one piece");
      });
    };
    auto const whole = moves * s.page_bytes();
    double const reference = one_piece(whole);
    row(s, "one piece", moves, 2 * whole, reference, reference);
    for (auto const& [kind, name] : {std::pair{'i', "independent"}, std::pair{'c', "chain"}}) {
      auto const list = copies_of(kind, moves, pages, s.page_size);
      auto const us = clock.of([&] { copier.copy(list, clock.stream()); });
      row(s, name, moves, 2 * whole, us, reference);
    }
    auto const part = moves * s.page_bytes() / 2;
    auto const list = copies_of('i', moves, pages, s.page_size / 2);
    auto const us = clock.of([&] { copier.copy(list, clock.stream()); });
    row(s, "half of each", moves, 2 * part, us, one_piece(part));
  }

  constexpr std::size_t on_host = 4;
  tpx::cuda_paged_cache cache{planes, {pages, s.page_size, on_host}};
  void* locked = nullptr;
  check_cuda(cudaHostAlloc(&locked, on_host * s.page_bytes(), cudaHostAllocDefault), "host memory");
  std::unique_ptr<void, decltype(&cudaFreeHost)> const host{locked, &cudaFreeHost};
  std::vector<page_id> used;
  for (page_id p = 0; p < on_host; ++p) { used.push_back(scattered(p, pages)); }
  auto const end = [&] { cache.use(used, clock.stream()); };
  auto const whole = on_host * s.page_bytes();
  for (bool const out : {true, false}) {
    auto const reference = clock.of([&] {
      check_cuda(
        cudaMemcpyAsync(out ? locked : first, out ? first : locked, whole,
                        out ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, clock.stream()),
        "one piece");
    });
    row(s, out ? "one piece to the host" : "one piece from the host", on_host, whole, reference,
        reference);
    auto const us = clock.of(
      [&] {
        for (std::uint32_t h = 0; h < on_host; ++h) {
          if (out) {
            cache.store(used[h], h, s.page_size, clock.stream());
          } else {
            cache.fetch(h, used[h], s.page_size, clock.stream());
          }
        }
      },
      end);
    row(s, out ? "store" : "fetch", on_host, whole, us, reference);
  }
}

}  // namespace

int main() {
  try {
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, 0), "asking for the GPU's name");
    std::printf("# %s, CUDA %d\n", properties.name, CUDART_VERSION);
    std::printf(
      "cache,page_size,planes,page_bytes,what,moves,us,gb_per_s,one_piece_us,of_one_piece\n");
    timer clock;
    for (auto const& s : shapes) { measure(s, clock); }
    return 0;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "page_moves_bench: %s\n", e.what());
    return 1;
  }
}
