// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/page_copier.cuh>
#include <tpx/cuda/private_stream.cuh>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tpx {

struct paged_cache_options {
  std::size_t pages;
  std::size_t page_size;       // positions
  std::size_t host_pages = 0;  // in page-locked host memory
};

/// What a model on a GPU does with the pages of its cache for a generator: generator_model's copy()
/// and tiered_model's store() and fetch(). Of a stream's cache: all calls name the same stream.
///
/// Copies are kernels in the stream. To and from the host goes a stream of its own, by copy
/// engines, which begins behind what the stream has been given until then; the stream goes on
/// meanwhile, and waits only where use() or copy() names one of these pages. So before a forward:
///
///     for (auto const& part : parts) { cache.use(part.pages, stream); }
///
/// Pages that were fetched ahead for jobs that wait are on their way while others run.
class paged_cache {
 public:
  /// Page-locks bytes(planes, page_size) for each host page. Throws as page_copier does.
  paged_cache(std::span<cache_plane const> planes, paged_cache_options const& how)
      : how_{how},
        planes_(planes.begin(), planes.end()),
        copier_{planes, how.pages, how.page_size},
        page_bytes_{bytes(planes, how.page_size)},
        host_{page_locked(how.host_pages * page_bytes_)},
        moving_(how.pages, false) {
    on_their_way_.reserve(how.pages);
  }
  paged_cache(paged_cache&&) = delete;
  ~paged_cache() { static_cast<void>(cudaStreamSynchronize(side_.get())); }

  /// Of a page in all planes.
  [[nodiscard]] static std::size_t bytes(std::span<cache_plane const> planes,
                                         std::size_t page_size) {
    std::size_t sum = 0;
    for (auto const& p : planes) { sum += p.rows * page_size * p.token_bytes; }
    return sum;
  }

  [[nodiscard]] std::size_t host_pages() const { return how_.host_pages; }

  void copy(std::span<page_copy const> copies, cudaStream_t stream) {
    for (auto const& c : copies) {
      page_id const both[]{c.from, c.to};
      use(both, stream);
    }
    copier_.copy(copies, stream);
  }

  /// The first `tokens` positions of a page go to a host page.
  void store(page_id page, std::uint32_t host, std::size_t tokens, cudaStream_t stream) {
    move<cudaMemcpyDeviceToHost>(page, host, tokens, stream);
  }

  /// And back.
  void fetch(std::uint32_t host, page_id page, std::size_t tokens, cudaStream_t stream) {
    move<cudaMemcpyHostToDevice>(page, host, tokens, stream);
  }

  /// What the stream is given from now on may read and write these pages.
  void use(std::span<page_id const> pages, cudaStream_t stream) {
    if (on_their_way_.empty()) { return; }
    for (page_id const page : pages) {
      expects(
        page < moving_.size(),
        [&] {
          return "page " + std::to_string(page) + " of a cache of " +
                 std::to_string(moving_.size());
        },
        "is the page table as large as the cache?");
      if (!moving_[page]) { continue; }
      detail::cuda_check(cudaStreamWaitEvent(stream, moved_.of), "waiting for host pages");
      for (page_id const p : on_their_way_) { moving_[p] = false; }
      return on_their_way_.clear();
    }
  }

 private:
  struct event {
    event() {
      detail::cuda_check(cudaEventCreateWithFlags(&of, cudaEventDisableTiming),
                         "creating an event");
    }
    event(event&&) = delete;
    ~event() { static_cast<void>(cudaEventDestroy(of)); }
    cudaEvent_t of = nullptr;
  };

  struct unlock {
    void operator()(std::byte* memory) const { static_cast<void>(cudaFreeHost(memory)); }
  };
  using host_memory = std::unique_ptr<std::byte, unlock>;

  static host_memory page_locked(std::size_t bytes) {
    void* memory = nullptr;
    if (bytes > 0) {
      detail::cuda_check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault),
                         "page-locking " + std::to_string(bytes) + " bytes for host pages",
                         {.remedy = "have fewer host pages"});
    }
    return host_memory{static_cast<std::byte*>(memory)};
  }

  template <cudaMemcpyKind Kind>
  void move(page_id page, std::uint32_t host, std::size_t tokens, cudaStream_t stream) {
    expects(
      page < how_.pages && host < how_.host_pages && tokens <= how_.page_size,
      [&] {
        return "a move of " + std::to_string(tokens) + " positions between page " +
               std::to_string(page) + " of " + std::to_string(how_.pages) + " and host page " +
               std::to_string(host) + " of " + std::to_string(how_.host_pages);
      },
      "is the page table as large as the cache?");
    detail::cuda_check(cudaEventRecord(given_.of, stream), "moving a host page");
    detail::cuda_check(cudaStreamWaitEvent(side_.get(), given_.of), "moving a host page");
    if (!moving_[page]) {
      moving_[page] = true;
      on_their_way_.push_back(page);
    }
    std::byte* there = host_.get() + host * page_bytes_;
    for (auto const& p : planes_) {
      std::size_t const row = how_.page_size * p.token_bytes;
      bool const whole = tokens == how_.page_size && p.row_stride == row;  // rows without gaps
      std::size_t const width = tokens * p.token_bytes * (whole ? p.rows : 1);
      std::size_t const rows = whole ? 1 : p.rows;
      std::size_t const stride = rows == 1 ? width : p.row_stride;
      std::byte* const here = p.data + page * p.page_stride;
      std::size_t const pitch = rows == 1 ? width : row;
      bool const out = Kind == cudaMemcpyDeviceToHost;
      detail::cuda_check(
        cudaMemcpy2DAsync(out ? there : here, out ? pitch : stride, out ? here : there,
                          out ? stride : pitch, width, rows, Kind, side_.get()),
        "moving a host page");
      there += p.rows * row;
    }
    detail::cuda_check(cudaEventRecord(moved_.of, side_.get()), "moving a host page");
  }

  paged_cache_options how_;
  std::vector<cache_plane> planes_;
  page_copier copier_;
  std::size_t page_bytes_;
  host_memory host_;
  detail::private_stream side_;
  event given_;                        // to the stream, when a page's move was asked for
  event moved_;                        // all moves
  std::vector<bool> moving_;           // by page: the stream has not waited for its move yet
  std::vector<page_id> on_their_way_;  // these pages
};

}  // namespace tpx
