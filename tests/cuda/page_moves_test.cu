// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a GPU does with the pages of a cache, against what one thread does one step after the other.
#include <tpx/cuda/paged_cache.cuh>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

using tpx::cache_plane;
using tpx::page_copy;
using tpx::page_id;
using tpx::detail::cuda_check;
using bytes = std::vector<std::uint8_t>;

int gpu_count() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

/// One tensor of a cache, wherever it is.
struct shape {
  std::size_t page_stride;
  std::size_t token_bytes;
  std::size_t rows;
  std::size_t row_stride;
};

constexpr std::size_t guard = 256;  // bytes before and after each plane
constexpr std::size_t page_size = 32;

/// Planes of a layer's keys and values in the two usual orders, with gaps and without, of scales
/// with few bytes a position, and one with more units than a block has threads.
std::vector<shape> const shapes{
  {page_size * 256, 256, 1, 0},                    // (page, position, head, channel)
  {page_size * 4 * 128, 128, 4, page_size * 128},  // (page, head, position, channel)
  {page_size * 3 * 64 + 80, 64, 3, page_size * 64 + 16},
  {page_size * 2, 2, 1, 0},
  {page_size * 5 * 3 + 32, 1, 5, page_size + 16},
  {page_size * 20 * 512, 512, 20, page_size * 512},
  {page_size * 12, 12, 1, 0}};

/// The same planes on the host and on the device.
class world {
 public:
  world(std::size_t pages, std::size_t host_pages, unsigned seed)
      : pages_{pages}, host_pages_{host_pages}, host_(shapes.size()) {
    std::size_t at = 0;
    for (auto const& s : shapes) {
      begins_.push_back(at + guard);
      at += 2 * guard + pages * s.page_stride;
    }
    begins_.push_back(at + guard);
    all_.resize(at);
    std::mt19937 random{seed};
    for (auto& b : all_) { b = static_cast<std::uint8_t>(random()); }
    cuda_check(cudaMalloc(&device_, at), "memory");
    cuda_check(cudaMemcpy(device_, all_.data(), at, cudaMemcpyHostToDevice), "memory");
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      auto const& s = shapes[i];
      planes_.push_back({device_ + begins_[i], s.page_stride, s.token_bytes, s.rows, s.row_stride});
      host_[i].resize(host_pages * page_bytes(s));
    }
    cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  }
  world(world&&) = delete;
  ~world() {
    cudaDeviceSynchronize();
    cudaStreamDestroy(stream_);
    cudaFree(device_);
  }

  [[nodiscard]] std::span<cache_plane const> planes() const { return planes_; }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }

  void copy(std::span<page_copy const> list) {
    for (auto const& [from, to, tokens] : list) {
      each_row([&, f = from, t = to, n = tokens](std::size_t, shape const& s, std::uint8_t* plane,
                                                 std::size_t row) {
        std::memmove(plane + t * s.page_stride + row * s.row_stride,
                     plane + f * s.page_stride + row * s.row_stride, n * s.token_bytes);
      });
    }
  }
  void store(page_id page, std::size_t host, std::size_t tokens) {
    each_row([&](std::size_t i, shape const& s, std::uint8_t const* plane, std::size_t row) {
      std::memcpy(host_row(i, s, host, row), plane + page * s.page_stride + row * s.row_stride,
                  tokens * s.token_bytes);
    });
  }
  void fetch(std::size_t host, page_id page, std::size_t tokens) {
    each_row([&](std::size_t i, shape const& s, std::uint8_t* plane, std::size_t row) {
      std::memcpy(plane + page * s.page_stride + row * s.row_stride, host_row(i, s, host, row),
                  tokens * s.token_bytes);
    });
  }
  /// A forward writes a page: after what the stream has been given.
  void write(page_id page, std::uint8_t value) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      auto const& s = shapes[i];
      std::fill_n(all_.data() + begins_[i] + page * s.page_stride, s.page_stride, value);
      cuda_check(
        cudaMemsetAsync(device_ + begins_[i] + page * s.page_stride, value, s.page_stride, stream_),
        "writing");
    }
  }

  /// The first place where the device has something else; empty if there is none.
  [[nodiscard]] std::string difference() const {
    bytes found(all_.size());
    cuda_check(cudaDeviceSynchronize(), "the copies");
    cuda_check(cudaMemcpy(found.data(), device_, found.size(), cudaMemcpyDeviceToHost), "memory");
    auto const [a, b] = std::mismatch(found.begin(), found.end(), all_.begin());
    if (a == found.end()) { return ""; }
    auto const at = static_cast<std::size_t>(a - found.begin());
    std::size_t plane = 0;
    while (plane + 1 < shapes.size() && at >= begins_[plane + 1] - guard) { ++plane; }
    auto const differ =
      std::inner_product(found.begin(), found.end(), all_.begin(), std::size_t{0}, std::plus<>{},
                         [](auto x, auto y) { return std::size_t{x != y}; });
    return std::to_string(differ) + " bytes differ, the first in plane " + std::to_string(plane) +
           (at < begins_[plane]
              ? ", before it"
              : ", page " + std::to_string((at - begins_[plane]) / shapes[plane].page_stride) +
                  ", byte " + std::to_string((at - begins_[plane]) % shapes[plane].page_stride));
  }

 private:
  static std::size_t page_bytes(shape const& s) { return s.rows * page_size * s.token_bytes; }
  std::uint8_t* host_row(std::size_t i, shape const& s, std::size_t host, std::size_t row) {
    return host_[i].data() + host * page_bytes(s) + row * page_size * s.token_bytes;
  }
  template <class F>
  void each_row(F const& f) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      for (std::size_t row = 0; row < shapes[i].rows; ++row) {
        f(i, shapes[i], all_.data() + begins_[i], row);
      }
    }
  }

  std::size_t pages_;
  std::size_t host_pages_;
  bytes all_;
  std::vector<bytes> host_;
  std::vector<std::size_t> begins_;
  std::byte* device_ = nullptr;
  std::vector<cache_plane> planes_;
  cudaStream_t stream_ = nullptr;
};

std::vector<page_copy> random_copies(std::mt19937& random, std::size_t pages, std::size_t most) {
  std::vector<page_copy> list(random() % (most + 1));
  for (auto& c : list) {
    // Whole pages more often than not; few pages make chains.
    c = {static_cast<page_id>(random() % pages), static_cast<page_id>(random() % pages),
         random() % 3 == 0 ? random() % (page_size + 1) : page_size};
  }
  return list;
}

}  // namespace

TEST_CASE("a GPU copies pages as one thread would, whatever the planes and the list", "[cuda]") {
  if (gpu_count() == 0) { SKIP("no GPU"); }
  constexpr std::size_t pages = 24;
  world w{pages, 0, 1};
  tpx::page_copier const copier{w.planes(), pages, page_size};
  std::mt19937 random{2};
  for (int round = 0; round < 300; ++round) {
    auto const list = random_copies(random, round % 2 == 0 ? pages : 4, round % 10 == 0 ? 700 : 20);
    INFO("round " << round << ", " << list.size() << " copies");
    w.copy(list);
    copier.copy(list, w.stream());
    if (round % 10 == 9 || round < 10) { REQUIRE(w.difference() == ""); }
  }
  REQUIRE(w.difference() == "");
}

TEST_CASE("a GPU copies each number of positions and none beside them", "[cuda]") {
  if (gpu_count() == 0) { SKIP("no GPU"); }
  world w{3, 0, 3};
  tpx::page_copier const copier{w.planes(), 3, page_size};
  for (std::size_t tokens = 0; tokens <= page_size; ++tokens) {
    INFO(tokens << " positions");
    page_copy const list[]{{static_cast<page_id>(tokens % 3),
                            static_cast<page_id>((tokens + 1 + tokens / 3 % 2) % 3), tokens}};
    w.copy(list);
    copier.copy(list, w.stream());
    REQUIRE(w.difference() == "");
  }
}

TEST_CASE("a GPU moves pages round a cycle with one spare page", "[cuda]") {
  if (gpu_count() == 0) { SKIP("no GPU"); }
  for (std::size_t pages : {3u, 8u, 300u}) {
    world w{pages, 0, 4};
    tpx::page_copier const copier{w.planes(), pages, page_size};
    auto const spare = static_cast<page_id>(pages - 1);
    std::vector<page_copy> list{{0, spare, page_size}};
    for (page_id page = 1; page < spare; ++page) { list.push_back({page, page - 1, page_size}); }
    list.push_back({spare, spare - 1, page_size});
    INFO(pages << " pages");
    w.copy(list);
    copier.copy(list, w.stream());
    REQUIRE(w.difference() == "");
  }
}

TEST_CASE("a captured list of copies is replayed", "[cuda]") {
  if (gpu_count() == 0) { SKIP("no GPU"); }
  world w{5, 0, 5};
  tpx::page_copier const copier{w.planes(), 5, page_size};
  page_copy const list[]{{0, 4, page_size}, {1, 0, page_size}, {2, 1, page_size}, {4, 2, 7}};
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cuda_check(cudaStreamBeginCapture(w.stream(), cudaStreamCaptureModeThreadLocal), "capturing");
  copier.copy(list, w.stream());
  cuda_check(cudaStreamEndCapture(w.stream(), &graph), "capturing");
  cuda_check(cudaGraphInstantiate(&exec, graph, 0), "capturing");
  for (int i = 0; i < 5; ++i) {
    w.copy(list);
    cuda_check(cudaGraphLaunch(exec, w.stream()), "replaying");
  }
  CHECK(w.difference() == "");
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

TEST_CASE("pages go to the host and come back while a stream writes and copies", "[cuda]") {
  if (gpu_count() == 0) { SKIP("no GPU"); }
  constexpr std::size_t pages = 12;
  constexpr std::size_t host_pages = 6;
  world w{pages, host_pages, 6};
  tpx::cuda_paged_cache cache{w.planes(), {pages, page_size, host_pages}};
  REQUIRE(cache.host_pages() == host_pages);
  std::mt19937 random{7};
  std::vector<std::size_t> stored(host_pages, 0);  // positions
  for (int round = 0; round < 400; ++round) {
    INFO("round " << round);
    for (auto steps = random() % 6; steps > 0; --steps) {
      auto const page = static_cast<page_id>(random() % pages);
      auto const host = static_cast<std::uint32_t>(random() % host_pages);
      switch (random() % 4) {
        case 0:
          stored[host] = random() % 3 == 0 ? random() % (page_size + 1) : page_size;
          w.store(page, host, stored[host]);
          cache.store(page, host, stored[host], w.stream());
          break;
        case 1:
          w.fetch(host, page, stored[host]);
          cache.fetch(host, page, stored[host], w.stream());
          break;
        case 2: {
          auto const list = random_copies(random, pages, 5);
          w.copy(list);
          cache.copy(list, w.stream());
          break;
        }
        default: {  // a forward
          page_id const written[]{page};
          cache.use(written, w.stream());
          w.write(page, static_cast<std::uint8_t>(random()));
        }
      }
    }
    if (round % 20 == 19) { REQUIRE(w.difference() == ""); }
  }
}

TEST_CASE("the stream waits for a page on its way, and for no other", "[cuda]") {
  if (gpu_count() == 0) { SKIP("no GPU"); }
  // 256 MiB a page take milliseconds on any link.
  constexpr std::size_t plane_bytes = std::size_t{256} << 20;
  std::byte* memory = nullptr;
  cuda_check(cudaMalloc(&memory, 2 * plane_bytes), "memory");
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  {
    cache_plane const planes[]{{memory, plane_bytes, plane_bytes / 16}};
    tpx::cuda_paged_cache cache{planes, {.pages = 2, .page_size = 16, .host_pages = 1}};
    cache.store(0, 0, 16, stream);
    cuda_check(cudaDeviceSynchronize(), "storing");
    cudaEvent_t end = nullptr;
    cuda_check(cudaEventCreate(&end), "an event");
    bool overlapped = false;  // unless the thread sleeps for all of a fetch, each time
    for (int attempt = 0; attempt < 20 && !overlapped; ++attempt) {
      cache.fetch(0, 0, 16, stream);
      page_id const other[]{1};
      cache.use(other, stream);
      cuda_check(cudaMemsetAsync(memory + plane_bytes, 0, 16, stream), "writing");
      cuda_check(cudaStreamSynchronize(stream), "writing");
      page_id const same[]{0};
      cache.use(same, stream);
      cuda_check(cudaEventRecord(end, stream), "an event");
      overlapped = cudaEventQuery(end) == cudaErrorNotReady;
      (void)cudaGetLastError();
      cuda_check(cudaStreamSynchronize(stream), "fetching");
    }
    CHECK(overlapped);
    cudaEventDestroy(end);
  }
  cudaStreamDestroy(stream);
  cudaFree(memory);
}

TEST_CASE("copies and moves of what a cache does not have are refused, and nothing is done",
          "[cuda]") {
  if (gpu_count() == 0) { SKIP("no GPU"); }
  world w{4, 2, 8};
  tpx::cuda_paged_cache cache{w.planes(), {4, page_size, 2}};
  for (page_copy const& bad :
       {page_copy{0, 4, 1}, page_copy{4, 0, 1}, page_copy{0, 1, page_size + 1}}) {
    page_copy const list[]{{0, 1, page_size}, bad};
    CHECK_THROWS_AS(cache.copy(list, w.stream()), tpx::error);
  }
  CHECK_THROWS_AS(cache.store(4, 0, 1, w.stream()), tpx::error);
  CHECK_THROWS_AS(cache.store(0, 2, 1, w.stream()), tpx::error);
  CHECK_THROWS_AS(cache.fetch(0, 0, page_size + 1, w.stream()), tpx::error);
  CHECK(w.difference() == "");
  auto unaligned = w.planes()[0];
  unaligned.data += 8;
  CHECK_THROWS_AS((tpx::page_copier{{&unaligned, 1}, 4, page_size}), tpx::error);
  CHECK_THROWS_AS((tpx::page_copier{{}, 4, page_size}), tpx::error);
}
