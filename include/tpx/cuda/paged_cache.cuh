// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/page_copier.cuh>
#include <tpx/cuda/private_stream.cuh>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tpx {

struct cuda_paged_cache_options {
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
class cuda_paged_cache {
 public:
  /// Page-locks bytes(planes, page_size) for each host page. Throws as page_copier does.
  cuda_paged_cache(std::span<cache_plane const> planes, cuda_paged_cache_options const& how)
      : how_{how},
        planes_(planes.begin(), planes.end()),
        copier_{planes, how.pages, how.page_size},
        page_bytes_{bytes(planes, how.page_size)},
        host_{page_locked(how.host_pages * page_bytes_)},
        moving_(how.pages, false) {
    on_their_way_.reserve(how.pages);
  }
  cuda_paged_cache(cuda_paged_cache&&) = delete;
  ~cuda_paged_cache() { static_cast<void>(cudaStreamSynchronize(side_.get())); }

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

  /// What goes between host and device, for the copy engines to do in any order. One call for all
  /// of it costs the host little; where CUDA lacks that, one for each part: up to 3 times as long.
  struct side_moves {
    std::vector<void*> to;
    std::vector<void const*> from;
    std::vector<std::size_t> bytes;

    void clear() {
      to.clear();
      from.clear();
      bytes.clear();
    }
    template <cudaMemcpyKind Kind>
    void add(std::byte* host, std::byte* device, std::size_t count) {
      if (count == 0) { return; }
      to.push_back(Kind == cudaMemcpyDeviceToHost ? host : device);
      from.push_back(Kind == cudaMemcpyDeviceToHost ? device : host);
      bytes.push_back(count);
    }
    template <cudaMemcpyKind Kind>
    void enqueue(cudaStream_t stream) {
      if (to.empty()) { return; }
#if CUDART_VERSION >= 13000
      cudaMemcpyAttributes how{};
      how.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
      std::size_t all = 0;
      detail::cuda_check(cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), to.size(), &how,
                                              &all, 1, stream),
                         "moving a host page");
#else
      for (std::size_t i = 0; i < to.size(); ++i) {
        detail::cuda_check(cudaMemcpyAsync(to[i], from[i], bytes[i], Kind, stream),
                           "moving a host page");
      }
#endif
    }
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
    moves_.clear();
    std::byte* there = host_.get() + host * page_bytes_;
    for (auto const& p : planes_) {
      std::size_t const row = how_.page_size * p.token_bytes;
      std::byte* const here = p.data + page * p.page_stride;
      if (tokens == how_.page_size && p.row_stride == row) {  // rows without gaps
        moves_.add<Kind>(there, here, p.rows * row);
      } else {
        for (std::size_t r = 0; r < p.rows; ++r) {
          moves_.add<Kind>(there + r * row, here + r * p.row_stride, tokens * p.token_bytes);
        }
      }
      there += p.rows * row;
    }
    moves_.enqueue<Kind>(side_.get());
    detail::cuda_check(cudaEventRecord(moved_.of, side_.get()), "moving a host page");
  }

  cuda_paged_cache_options how_;
  std::vector<cache_plane> planes_;
  page_copier copier_;
  std::size_t page_bytes_;
  host_memory host_;
  detail::private_stream side_;
  event given_;                        // to the stream, when a page's move was asked for
  event moved_;                        // all moves
  side_moves moves_;                   // of one page
  std::vector<bool> moving_;           // by page: the stream has not waited for its move yet
  std::vector<page_id> on_their_way_;  // these pages
};

}  // namespace tpx
