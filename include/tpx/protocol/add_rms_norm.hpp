// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/op.hpp>

#include <cmath>

namespace tpx {

/// Epilogue of rows: adds a residual and normalises. With h = reduced + residual, rounded to T and
/// stored in the all-reduce's output,
///
///     normed = h / sqrt(mean(h^2) + epsilon) * weight
///
/// in the precision of the sum, rounded to Out. The output is mostly the residual itself, and
/// `normed` may be the all-reduce's input.
/// Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019, arXiv:1910.07467).
template <class T, class W, class Out>
struct add_rms_norm {
  T const* residual;  // (rows, columns), the same on every rank, as is the weight
  W const* weight;    // (columns)
  Out* normed;        // (rows, columns)
  std::size_t columns;
  float epsilon = 1e-5f;

  [[nodiscard]] TPX_HD constexpr T const* operand() const { return residual; }
  template <class A>
  TPX_HD constexpr A operator()(A reduced, std::size_t, T beside) const {
    return reduced + static_cast<A>(beside);
  }
  template <class A>
  TPX_HD constexpr A operator()(A reduced, std::size_t i) const {
    return (*this)(reduced, i, residual[i]);
  }
  template <class Row>
  TPX_HD void row(Row const& r) const {
    auto const weights = r.fetch(weight);
    r.store(normed, norm(r), weights);
  }

  /// What makes a normalised value: (value, column, weight) -> value.
  template <class Row>
  [[nodiscard]] TPX_HD auto norm(Row const& r) const {
    auto const squares = r.sum([](auto v, std::size_t) { return v * v; });
    using A = std::remove_const_t<decltype(squares)>;
    A const mean = squares / static_cast<A>(columns);
    A const scale = A{1} / std::sqrt(mean + static_cast<A>(epsilon));
    return [scale](A v, std::size_t, W w) { return v * scale * static_cast<A>(w); };
  }
};
template <class T, class W, class Out>
add_rms_norm(T*, W*, Out*, std::size_t)
  -> add_rms_norm<std::remove_const_t<T>, std::remove_const_t<W>, Out>;
template <class T, class W, class Out>
add_rms_norm(T*, W*, Out*, std::size_t, float)
  -> add_rms_norm<std::remove_const_t<T>, std::remove_const_t<W>, Out>;

/// What values are divided by before they become float8_e4m3: one number for all of them.
struct given_scale {
  float const* scale;

  template <class Row, class F, class Weights>
  [[nodiscard]] TPX_HD float of(Row const&, F const&, Weights const&) const {
    return *scale;
  }
};

/// One for each row, such that its largest magnitude becomes 448 (1, where all are 0); stored.
struct scale_per_row {
  float* scales;  // (rows)

  template <class Row, class F, class Weights>
  [[nodiscard]] TPX_HD float of(Row const& r, F const& f, Weights const& weights) const {
    auto const most =
      r.max([&f](auto v, std::size_t c, auto w) { return std::abs(f(v, c, w)); }, weights);
    float const even = static_cast<float>(most) / float8_e4m3::most;
    float const scale = even > 0 ? even : 1.0f;
    r.set(scales, scale);
    return scale;
  }
};

/// As add_rms_norm, but what is stored is normed / scale as float8_e4m3:
///
///     add_rms_norm_fp8{add_rms_norm{residual, weight, normed, columns}, scale_per_row{scales}}
template <class T, class W, class Scale>
struct add_rms_norm_fp8 : add_rms_norm<T, W, float8_e4m3> {
  Scale scale;

  template <class Row>
  TPX_HD void row(Row const& r) const {
    auto const weights = r.fetch(this->weight);
    auto const normed_value = this->norm(r);
    float const by = 1.0f / scale.of(r, normed_value, weights);
    r.store(
      this->normed,
      [&](auto v, std::size_t c, W w) { return static_cast<float>(normed_value(v, c, w)) * by; },
      weights);
  }
};
template <class T, class W, class Scale>
add_rms_norm_fp8(add_rms_norm<T, W, float8_e4m3>, Scale) -> add_rms_norm_fp8<T, W, Scale>;

}  // namespace tpx
