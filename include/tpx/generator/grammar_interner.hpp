// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx::detail {

/// Numbers sequences of words from 0 on; equal sequences have one number. Open addressing, one pool
/// for all words.
class interner {
 public:
  std::uint32_t operator()(std::span<std::uint64_t const> words) {
    if (2 * (size() + 1) > table_.size()) { grow(); }
    for (auto slot = hash(words) & (table_.size() - 1);; slot = (slot + 1) & (table_.size() - 1)) {
      auto& number = table_[slot];
      if (number == none) {
        number = static_cast<std::uint32_t>(size());
        pool_.insert(pool_.end(), words.begin(), words.end());
        ends_.push_back(pool_.size());
        return number;
      }
      if (std::ranges::equal((*this)[number], words)) { return number; }
    }
  }

  /// Valid until the next sequence is numbered.
  [[nodiscard]] std::span<std::uint64_t const> operator[](std::uint32_t number) const {
    auto const first = number == 0 ? 0 : ends_[number - 1];
    return std::span{pool_}.subspan(first, ends_[number] - first);
  }

  [[nodiscard]] std::size_t size() const { return ends_.size(); }

  [[nodiscard]] std::size_t bytes() const {
    return 8 * (pool_.size() + ends_.size()) + 4 * table_.size();
  }

  /// Forgets all; memory is kept.
  void clear() {
    pool_.clear();
    ends_.clear();
    std::fill(table_.begin(), table_.end(), none);
  }

 private:
  static constexpr std::uint32_t none = ~0u;

  static std::size_t hash(std::span<std::uint64_t const> words) {
    std::uint64_t h = words.size();
    for (auto const word : words) {
      h = std::rotl(h ^ word, 29) * 0x9e3779b97f4a7c15u;
      h ^= h >> 32;
    }
    return static_cast<std::size_t>(h);
  }

  void grow() {
    table_.assign(std::max<std::size_t>(64, 2 * table_.size()), none);
    for (std::uint32_t number = 0; number < size(); ++number) {
      auto slot = hash((*this)[number]) & (table_.size() - 1);
      while (table_[slot] != none) { slot = (slot + 1) & (table_.size() - 1); }
      table_[slot] = number;
    }
  }

  std::vector<std::uint64_t> pool_;
  std::vector<std::size_t> ends_;
  std::vector<std::uint32_t> table_;  // of a power of two slots
};

}  // namespace tpx::detail
