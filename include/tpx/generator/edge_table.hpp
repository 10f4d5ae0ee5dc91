// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tpx::detail {

/// An automaton's edges in the order of their making, found by the state they leave and their
/// token.
///
/// Open addressing with linear probing. Only the youngest edges can be dropped, so a slot that they
/// leave empty is on no other edge's way.
class edge_table {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  struct edge {
    std::uint32_t from;
    token_id token;
    std::uint32_t target;
    std::uint32_t next;  // the edge that `from` got before, or none
  };

  explicit edge_table(std::size_t expected)
      : slots_(std::bit_ceil(2 * expected + 8), none),
        shift_{std::countl_zero(std::uint64_t{slots_.size() - 1})} {
    edges_.reserve(expected);
  }

  [[nodiscard]] std::uint32_t size() const noexcept {
    return static_cast<std::uint32_t>(edges_.size());
  }
  edge const& operator[](std::uint32_t at) const { return edges_[at]; }
  void retarget(std::uint32_t at, std::uint32_t target) { edges_[at].target = target; }

  [[nodiscard]] std::uint32_t find(std::uint32_t from, token_id token) const {
    for (auto slot = home(from, token);; slot = after(slot)) {
      auto const at = slots_[slot];
      if (at == none || (edges_[at].from == from && edges_[at].token == token)) { return at; }
    }
  }

  /// Returns its index.
  std::uint32_t add(edge const& made) {
    edges_.push_back(made);
    if (2 * edges_.size() > slots_.size()) {
      grow();
    } else {
      place(size() - 1);
    }
    return size() - 1;
  }

  /// Drops all edges but the first `count`.
  void shrink(std::uint32_t count) {
    while (size() > count) {
      auto slot = home(edges_.back().from, edges_.back().token);
      while (slots_[slot] != size() - 1) { slot = after(slot); }
      slots_[slot] = none;
      edges_.pop_back();
    }
  }

 private:
  [[nodiscard]] std::size_t home(std::uint32_t from, token_id token) const {
    auto const key = std::uint64_t{from} << 32 | static_cast<std::uint32_t>(token);
    return static_cast<std::size_t>(key * 0x9E3779B97F4A7C15 >> shift_);
  }
  [[nodiscard]] std::size_t after(std::size_t slot) const {
    return (slot + 1) & (slots_.size() - 1);
  }

  void place(std::uint32_t at) {
    auto slot = home(edges_[at].from, edges_[at].token);
    while (slots_[slot] != none) { slot = after(slot); }
    slots_[slot] = at;
  }
  void grow() {
    slots_.assign(2 * slots_.size(), none);
    --shift_;
    for (std::uint32_t at = 0; at < size(); ++at) { place(at); }
  }

  std::vector<edge> edges_;
  std::vector<std::uint32_t> slots_;
  int shift_;
};

}  // namespace tpx::detail
