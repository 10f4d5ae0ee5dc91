// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Makes tokens of the history less likely. Of the last `range` tokens each counts in full, f = 1;
/// of the `decay` tokens before, less and less. With w = logit > 0 ? logit / repetition : logit *
/// repetition, a logit becomes
///
///     (1 - f) logit + f w - presence * f - frequency * (sum of f over its occurrences)
///
/// where f is that of its last occurrence. Source: exllamav3 SS_RepP, then SS_PresFreqP.
struct Penalties {
  static constexpr std::string_view name = "Penalties";
  static constexpr bool on_any_space = true;
  static constexpr bool looks_at_history = true;
  float repetition = 1;
  float presence = 0;
  float frequency = 0;
  int range = std::numeric_limits<int>::max();
  int decay = 0;

  [[nodiscard]] TPX_HD bool neutral() const {
    return (repetition == 1 && presence == 0 && frequency == 0) || (range == 0 && decay == 0);
  }
  void validate() const {
    detail::expect_within("Penalties: repetition", repetition, 1e-3, 1e3);
    detail::expect_within("Penalties: presence", presence, -1e3, 1e3);
    detail::expect_within("Penalties: frequency", frequency, -1e3, 1e3);
    expects(range >= 0 && decay >= 0, "Penalties: range and decay must not be negative");
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    c.edit_seen(
      static_cast<std::size_t>(range) + static_cast<std::size_t>(decay),
      [this](std::size_t back) { return fade(back); },
      [this](float logit, float most, float sum) {
        float const w = logit > 0 ? logit / repetition : logit * repetition;
        return detail::product(logit, 1 - most) + detail::product(w, most) -
               detail::product(frequency, sum) - detail::product(presence, most);
      });
  }

 private:
  [[nodiscard]] TPX_HD float fade(std::size_t back) const {
    auto const full = static_cast<std::size_t>(range);
    if (back <= full) { return 1; }
    return 1 - static_cast<float>(back - full) / static_cast<float>(decay);
  }
};
static_assert(sampler_stage<Penalties>);

}  // namespace tpx::sample
