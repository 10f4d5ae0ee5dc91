// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tpx::detail {

/// A page copy of a window; of 0 tokens: none.
struct window_copy {
  page_id from = 0;
  page_id to = 0;
  std::uint32_t tokens = 0;
};

/// Page copies in windows of `Width`: where a window's sources are all read before one of its
/// targets is written, and windows follow each other, the pages come out as if the copies were
/// carried out one after the other. Trivially copyable, so good as a kernel's argument.
template <std::size_t Capacity, std::size_t Width>
struct page_windows {
  static_assert(Capacity % Width == 0);
  static constexpr std::size_t width = Width;

  window_copy copies[Capacity] = {};
  std::uint32_t count = 0;  // of the copies, whole windows
  std::uint32_t most = 0;   // tokens of one copy

  /// Takes as many of `list` as there is room for, and returns how many.
  std::size_t take(std::span<page_copy const> list) {
    std::size_t end = 0;
    std::size_t taken = 0;
    for (; taken < list.size(); ++taken) {
      auto const& [from, to, tokens] = list[taken];
      if (tokens == 0 || from == to) { continue; }
      auto const window = end / Width * Width;
      for (auto i = window; i < end; ++i) {
        if (copies[i].to == from) {  // written in this window: to be read in the next
          end = window + Width;
          break;
        }
      }
      if (end == Capacity) { break; }
      copies[end++] = {from, to, static_cast<std::uint32_t>(tokens)};
      most = copies[end - 1].tokens > most ? copies[end - 1].tokens : most;
    }
    count = static_cast<std::uint32_t>((end + Width - 1) / Width * Width);
    return taken;
  }
};

}  // namespace tpx::detail
