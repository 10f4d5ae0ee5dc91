// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Keeps the largest logit alone, of equal ones the lowest token. 8 bytes reduced.
struct Argmax {
  static constexpr std::string_view name = "Argmax";
  static constexpr bool on_any_space = true;

  [[nodiscard]] TPX_HD bool neutral() const { return false; }
  void validate() const {}
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  [[nodiscard]] TPX_HD token_id pick(C& c) const {
    std::uint64_t first = 0;
    c.for_each_from(c.best(), [&](token_id token, float) {
      std::uint64_t const mine = ~static_cast<std::uint32_t>(token);
      first = mine > first ? mine : first;
    });
    return static_cast<token_id>(~static_cast<std::uint32_t>(c.largest(first)));
  }
};
static_assert(picking_stage<Argmax>);

}  // namespace tpx::sample
