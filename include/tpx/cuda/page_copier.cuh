// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/cuda/device_memory.cuh>
#include <tpx/generator/page_windows.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tpx {

/// One tensor of a paged cache on a GPU, such as the keys of a layer. A page has `rows` rows, each
/// of page_size positions of `token_bytes`:
///
///   (page, position, head, channel)   1 row; token_bytes = heads * channels * bytes of an element
///   (page, head, position, channel)   a row a head; token_bytes = channels * bytes of an element
///
/// All but `rows` and `token_bytes` are multiples of 16, page_size * token_bytes too.
struct cache_plane {
  std::byte* data;             // of page 0
  std::size_t page_stride;     // bytes from one page to the next
  std::size_t token_bytes;     //
  std::size_t rows = 1;        //
  std::size_t row_stride = 0;  // bytes from one row to the next, where there are several
};

namespace detail {

/// A kernel's argument may have 4 KiB: 256 copies at a time.
using launched_copies = page_windows<256, 4>;

/// What one launch copies is cut by position, not by copy: a thread has 16 bytes at each of some
/// places of every page, and does all copies there in their order. So no thread reads what another
/// writes, and chains and cycles of copies need neither a barrier nor a second launch.
///
/// Width: copies of a window that are under way at a time; a divisor of the list's width. Places: a
/// thread has as many. Their product is what hides the memory's latency: 4 are enough.
template <unsigned Threads, unsigned Width, unsigned Places>
__global__ void __launch_bounds__(Threads)
  copy_pages(cache_plane const* planes, __grid_constant__ launched_copies const list) {
  constexpr unsigned unit = sizeof(uint4);
  cache_plane const plane = planes[blockIdx.y];
  auto const token_bytes = static_cast<unsigned>(plane.token_bytes);
  unsigned const row_units = (list.most * token_bytes + unit - 1) / unit;
  unsigned at[Places];
  std::byte* place[Places];
  TPX_UNROLL
  for (unsigned p = 0; p < Places; ++p) {
    unsigned const mine = (blockIdx.x * Places + p) * Threads + threadIdx.x;
    unsigned const row = mine / row_units;
    at[p] = row < plane.rows ? mine % row_units * unit : ~0u;  // behind every end
    place[p] = plane.data + row * plane.row_stride + at[p];
  }
  auto const here = [&](unsigned p, page_id page) {
    return reinterpret_cast<uint4*>(place[p] + page * plane.page_stride);
  };
  for (unsigned w = 0; w < list.count; w += Width) {
    uint4 held[Width][Places];
    TPX_UNROLL
    for (unsigned i = 0; i < Width; ++i) {
      auto const& c = list.copies[w + i];
      TPX_UNROLL
      for (unsigned p = 0; p < Places; ++p) {
        if (at[p] < c.tokens * token_bytes) { held[i][p] = *here(p, c.from); }
      }
    }
    TPX_UNROLL
    for (unsigned i = 0; i < Width; ++i) {
      auto const& c = list.copies[w + i];
      unsigned const end = c.tokens * token_bytes;
      TPX_UNROLL
      for (unsigned p = 0; p < Places; ++p) {
        unsigned const left = at[p] < end ? end - at[p] : 0;
        if (left >= unit) {
          *here(p, c.to) = held[i][p];
        } else if (left > 0) {  // the last position ends in these 16 bytes
          auto const* const from = reinterpret_cast<std::byte const*>(&held[i][p]);
          auto* const to = reinterpret_cast<std::byte*>(here(p, c.to));
          TPX_UNROLL
          for (unsigned b = 0; b < unit; ++b) {
            if (b < left) { to[b] = from[b]; }
          }
        }
      }
    }
  }
}

}  // namespace detail

/// Copies pages of a cache of several planes on the current device: generator_model's copy().
class page_copier {
 public:
  /// Throws invalid_argument for planes that are not aligned.
  page_copier(std::span<cache_plane const> planes, std::size_t pages, std::size_t page_size)
      : pages_{pages},
        page_size_{page_size},
        count_{planes.size()},
        planes_{detail::device_memory::create_plain(planes.size_bytes())} {
    expects(!planes.empty(), "a paged cache without planes");
    for (auto const& p : planes) { check(p); }
    detail::cuda_check(
      cudaMemcpy(planes_.data(), planes.data(), planes.size_bytes(), cudaMemcpyHostToDevice),
      "describing a paged cache");
  }

  /// Enqueues the copies, one after the other as far as anybody can tell: a kernel for each 256 of
  /// them, which a CUDA graph may capture. Throws invalid_argument, before any is enqueued, for a
  /// page or a position that the cache does not have. Allocates nothing.
  void copy(std::span<page_copy const> copies, cudaStream_t stream) const {
    for (auto const& c : copies) {
      expects(
        c.from < pages_ && c.to < pages_ && c.tokens <= page_size_,
        [&] {
          return "a copy of " + std::to_string(c.tokens) + " positions from page " +
                 std::to_string(c.from) + " to page " + std::to_string(c.to) + " in a cache of " +
                 std::to_string(pages_) + " pages of " + std::to_string(page_size_);
        },
        "is the page table as large as the cache?");
    }
    while (!copies.empty()) {
      detail::launched_copies list;
      copies = copies.subspan(list.take(copies));
      if (list.count > 0) { launch(list, stream); }
    }
  }

 private:
  static constexpr unsigned threads = 256;

  void check(cache_plane const& p) {
    auto const sum = reinterpret_cast<std::uintptr_t>(p.data) | p.page_stride | p.row_stride |
                     page_size_ * p.token_bytes;
    expects(
      sum % sizeof(uint4) == 0 && p.rows > 0 && p.token_bytes > 0,
      [&] {
        return "a plane of a paged cache at " +
               std::to_string(reinterpret_cast<std::uintptr_t>(p.data)) + ", pages " +
               std::to_string(p.page_stride) + " bytes apart, with " + std::to_string(p.rows) +
               " rows " + std::to_string(p.row_stride) + " bytes apart, of " +
               std::to_string(page_size_) + " positions of " + std::to_string(p.token_bytes) +
               " bytes";
      },
      "align it, its pages and its rows to 16 bytes");
    row_bytes_ = std::max(row_bytes_, p.rows * p.token_bytes);
    rows_ = std::max(rows_, p.rows);
  }

  void launch(detail::launched_copies const& list, cudaStream_t stream) const {
    constexpr unsigned width = detail::launched_copies::width;
    bool const single = list.count == width && list.copies[1].tokens == 0;
    single ? launch<1, width>(list, stream) : launch<width, 1>(list, stream);
  }

  template <unsigned Width, unsigned Places>
  void launch(detail::launched_copies const& list, cudaStream_t stream) const {
    // Enough for the largest plane: a row's units, rounded up, times rows.
    auto const units = list.most * row_bytes_ / sizeof(uint4) + rows_;
    auto const blocks = static_cast<unsigned>((units + Places * threads - 1) / (Places * threads));
    detail::copy_pages<threads, Width, Places>
      <<<dim3{blocks, static_cast<unsigned>(count_)}, threads, 0, stream>>>(
        reinterpret_cast<cache_plane const*>(planes_.data()), list);
    detail::cuda_check(cudaGetLastError(), "copying pages of a cache");
  }

  std::size_t pages_;
  std::size_t page_size_;
  std::size_t count_;
  std::size_t row_bytes_ = 0;  // of a position in all rows, in the largest plane
  std::size_t rows_ = 0;       // in the plane that has most
  detail::device_memory planes_;
};

}  // namespace tpx
