// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

namespace tpx {

/// How often values fell where: `Bounds` is an array of the buckets' upper ends, which belong to
/// them, in ascending order; one more bucket takes what is above the last.
template <auto const& Bounds>
class histogram {
  static_assert(std::ranges::is_sorted(Bounds));

 public:
  static constexpr std::size_t buckets = std::size(Bounds) + 1;

  /// NaN falls above the last bound.
  constexpr void add(double value) noexcept {
    std::size_t at = 0;
    while (at < std::size(Bounds) && !(value <= Bounds[at])) { ++at; }
    ++counts_[at];
    ++count_;
    sum_ += value;
  }

  [[nodiscard]] static constexpr std::span<double const> bounds() noexcept { return Bounds; }
  [[nodiscard]] constexpr std::span<std::uint64_t const, buckets> counts() const noexcept {
    return counts_;
  }
  [[nodiscard]] constexpr std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] constexpr double sum() const noexcept { return sum_; }
  [[nodiscard]] constexpr double mean() const noexcept {
    return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
  }

  /// The value that a share `part` (0 to 1) of all values do not exceed, as if they lay evenly in
  /// their bucket; the last bound for what is above it; 0 if there are none.
  [[nodiscard]] constexpr double quantile(double part) const noexcept {
    if (count_ == 0) { return 0; }
    double const wanted = part * static_cast<double>(count_);
    double below = 0;
    double low = 0;
    for (std::size_t i = 0; i < std::size(Bounds); ++i) {
      auto const here = static_cast<double>(counts_[i]);
      if (here > 0 && below + here >= wanted) {
        return low + (Bounds[i] - low) * (wanted - below) / here;
      }
      below += here;
      low = Bounds[i];
    }
    return low;
  }

 private:
  std::array<std::uint64_t, buckets> counts_{};
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

}  // namespace tpx
