// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps the largest logit alone, of equal ones the lowest token. 8 bytes reduced.
struct Argmax {
  static constexpr std::string_view name = "Argmax";

  [[nodiscard]] bool neutral() const { return false; }
  void validate() const {}
  template <class C>
  [[nodiscard]] token_id pick(C& c) const {
    std::uint64_t first = 0;
    c.for_each_from(c.best(), [&](token_id token, float) {
      first = std::max<std::uint64_t>(first, ~static_cast<std::uint32_t>(token));
    });
    c.reduction().max(std::span{&first, 1});
    return static_cast<token_id>(~static_cast<std::uint32_t>(first));
  }
};
static_assert(picking_stage<Argmax>);

}  // namespace tpx::sample
