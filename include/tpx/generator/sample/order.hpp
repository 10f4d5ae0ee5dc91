// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/chunk.hpp>

namespace tpx::detail {

/// Each candidate weighs 1.
struct weighs_one {
  static constexpr bool counts = true;
  /// Adds the weights of sixteen logits; x is used up.
  static void weigh(lanes& x, float, fixed_lanes& weight) {
    weight.low -= x > no_logit;  // true is -1
  }
};

/// Each candidate weighs its probability.
struct weighs_probability {
  static constexpr bool counts = false;
  static void weigh(lanes& x, float best, fixed_lanes& weight) {
    to_mass(x, best);
    weight.add(x);
  }
};

/// The largest logits come first. The one that reaches the limit is kept.
struct largest_first : weighs_one {
  static constexpr bool by_logit = true;
  static constexpr bool passes = true;
  void order(lanes&) const {}
  [[nodiscard]] TPX_HD float order(float x) const { return x; }
};

/// The likeliest come first. The one that would pass the limit is not kept.
struct likeliest_first : weighs_probability {
  static constexpr bool by_logit = true;
  static constexpr bool passes = false;
  void order(lanes&) const {}
  [[nodiscard]] TPX_HD float order(float x) const { return x; }
};

/// Those nearest to a logit come first. The one that reaches the limit is kept.
struct nearest_first : weighs_probability {
  static constexpr bool by_logit = false;
  static constexpr bool passes = true;
  explicit TPX_HD nearest_first(float logit) : center{logit} {}
  float center;
  /// Logits become minus their distance from it.
  void order(lanes& x) const {
    x -= center;
    absolute(x);
    x = -x;
  }
  [[nodiscard]] TPX_HD float order(float x) const { return x > center ? center - x : x - center; }
};

}  // namespace tpx::detail
