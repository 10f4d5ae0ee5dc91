// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/lanes.hpp>
#include <tpx/layer/weight.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tpx {

/// Keys and values of one layer, in pages of `PageSize` positions that any sequence may use.
///
/// A sequence's block table names its pages: position p lies in page table[p / PageSize] at
/// p % PageSize. Keys lie with the positions innermost, values with head_dim innermost, so that
/// attention reads both in whole lanes. T is float or bfloat16 (half the memory; keys and values
/// are then rounded). Source: Kwon et al., PagedAttention (2023, arXiv:2309.06180).
template <std::size_t PageSize = 32, class T = float>
class paged_cache {
  static_assert(PageSize > 0 && PageSize % detail::lane_count == 0,
                "a page has a multiple of 16 positions");
  static_assert(std::same_as<T, float> || std::same_as<T, bfloat16>,
                "keys and values are kept as float or tpx::bfloat16");

 public:
  static constexpr std::size_t page_size = PageSize;

  /// Zeroed. kv_heads: this rank's; may be 0.
  paged_cache(std::size_t pages, std::size_t kv_heads, std::size_t head_dim)
      : pages_{pages},
        heads_{kv_heads},
        dim_{head_dim},
        pitch_{detail::whole_lanes(head_dim)},
        data_(pages * kv_heads * head_size()) {}

  [[nodiscard]] static constexpr std::size_t bytes_needed(std::size_t pages, std::size_t kv_heads,
                                                          std::size_t head_dim) {
    return pages * kv_heads * PageSize * (head_dim + detail::whole_lanes(head_dim)) * sizeof(T);
  }
  [[nodiscard]] static constexpr std::size_t pages_needed(std::size_t positions) {
    return (positions + PageSize - 1) / PageSize;
  }

  [[nodiscard]] std::size_t pages() const noexcept { return pages_; }
  [[nodiscard]] std::size_t kv_heads() const noexcept { return heads_; }
  [[nodiscard]] std::size_t head_dim() const noexcept { return dim_; }
  /// Elements from one position's values to the next.
  [[nodiscard]] std::size_t value_pitch() const noexcept { return pitch_; }

  /// (head_dim, PageSize)
  [[nodiscard]] T const* keys(std::uint32_t page, std::size_t head) const {
    return data_.data() + offset(page, head);
  }
  /// (PageSize, value_pitch())
  [[nodiscard]] T const* values(std::uint32_t page, std::size_t head) const {
    return keys(page, head) + dim_ * PageSize;
  }

  /// Puts k and v, (tokens, kv_heads, head_dim) each, at positions start, start + 1, ... of the
  /// sequence whose block table is `table`. Errors: invalid_argument, before anything is changed.
  void put(std::span<std::uint32_t const> table, std::size_t start, std::size_t tokens,
           std::span<float const> k, std::span<float const> v) {
    detail::expect_shape("paged_cache: k", k.size(), tokens, heads_ * dim_);
    detail::expect_shape("paged_cache: v", v.size(), tokens, heads_ * dim_);
    check_table(table, start + tokens);
    for (std::size_t t = 0; t < tokens; ++t) {
      std::size_t const at = (start + t) % PageSize;
      for (std::size_t h = 0; h < heads_; ++h) {
        std::size_t const from = (t * heads_ + h) * dim_;
        T* const to = data_.data() + offset(table[(start + t) / PageSize], h);
        T* const key = to + at;
        T* const value = to + dim_ * PageSize + at * pitch_;
        for (std::size_t i = 0; i < dim_; ++i) {
          key[i * PageSize] = static_cast<T>(k[from + i]);
          value[i] = static_cast<T>(v[from + i]);
        }
      }
    }
  }

  /// The first `tokens` positions of `page` become those of page `other` of `to`, which may be this
  /// cache or one in slower memory. Errors: invalid_argument, before anything is changed.
  void copy(std::uint32_t page, paged_cache& to, std::uint32_t other, std::size_t tokens) const {
    check_copy(page, to, other, tokens);
    if (&to == this && page == other) { return; }
    for (std::size_t h = 0; h < heads_; ++h) {
      auto const* const from = keys(page, h);
      T* const into = to.data_.data() + offset(other, h);
      for (std::size_t i = 0; i < dim_; ++i) {
        std::copy_n(from + i * PageSize, tokens, into + i * PageSize);
      }
      std::copy_n(from + dim_ * PageSize, tokens * pitch_, into + dim_ * PageSize);
    }
  }

  /// Throws invalid_argument unless copy() can do this.
  void check_copy(std::uint32_t page, paged_cache const& to, std::uint32_t other,
                  std::size_t tokens) const {
    expects(
      page < pages_ && other < to.pages_ && tokens <= PageSize && to.heads_ == heads_ &&
        to.dim_ == dim_,
      [&] {
        return std::to_string(tokens) + " positions of page " + std::to_string(page) + " of " +
               std::to_string(pages_) + " do not fit page " + std::to_string(other) + " of " +
               std::to_string(to.pages_);
      },
      "copy up to a page between caches of one shape");
  }

  /// Throws invalid_argument unless `table` names existing pages for `positions` positions.
  void check_table(std::span<std::uint32_t const> table, std::size_t positions) const {
    std::size_t const needed = pages_needed(positions);
    if (table.size() < needed) {
      throw error{errc::invalid_argument,
                  "a block table of " + std::to_string(table.size()) + " pages of " +
                    std::to_string(PageSize) + " has no place for " + std::to_string(positions) +
                    " positions",
                  {.remedy = "give the sequence more pages, or end it sooner"}};
    }
    for (std::uint32_t const page : table.first(needed)) {
      if (page >= pages_) {
        throw error{errc::invalid_argument, "a block table names page " + std::to_string(page) +
                                              " of a cache that has " + std::to_string(pages_)};
      }
    }
  }

 private:
  /// Elements of one head in one page.
  [[nodiscard]] std::size_t head_size() const { return PageSize * (dim_ + pitch_); }
  [[nodiscard]] std::size_t offset(std::uint32_t page, std::size_t head) const {
    return (page * heads_ + head) * head_size();
  }

  std::size_t pages_;
  std::size_t heads_;
  std::size_t dim_;
  std::size_t pitch_;
  std::vector<T> data_;  // (pages, kv_heads, {keys, values})
};

}  // namespace tpx
