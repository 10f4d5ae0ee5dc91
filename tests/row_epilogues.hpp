// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "world.hpp"

#include <tpx/allreduce.hpp>

#include <algorithm>

/// What residual + RMSNorm must give, in fp64, and how far a result may be from it. Shared by both
/// spaces' tests.
namespace row_epilogues {

using namespace world;

enum class output { normed, over_input, fp8, static_fp8 };
inline constexpr float epsilon = 1e-3f;
inline constexpr float fixed_scale = 0.0078125f;

/// The arrays of one rank's call.
template <class T>
struct operands {
  std::vector<T> x, residual, weight, normed;
  std::vector<float8_e4m3> small;
  std::vector<float> scales;

  operands(int rank, std::size_t rows, std::size_t columns, unsigned salt)
      : x(rows * columns),
        residual(rows * columns),
        weight(columns),
        normed(rows * columns),
        small(rows * columns),
        scales(rows + 1) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = value<T>(rank, i, salt);
      residual[i] = value<T>(98, i, salt);
    }
    for (std::size_t c = 0; c < columns; ++c) { weight[c] = value<T>(99, c, salt); }
    scales[rows] = fixed_scale;
  }
};

/// "" if `got` is what n ranks' operands give. The norm is of the residual that was stored.
template <class T>
std::string differs(operands<T> const& got, int n, std::size_t rows, std::size_t columns,
                    output what, unsigned salt) {
  operands<T> const given{0, rows, columns, salt};
  double const last = std::is_same_v<T, bfloat16> ? 0x1p-8 : 0x1p-20;
  auto const where = [&](char const* which, std::size_t i) {
    return std::string{which} + ", element " + std::to_string(i) + " of (" + std::to_string(rows) +
           ", " + std::to_string(columns) + ") on " + std::to_string(n) + " ranks, output " +
           std::to_string(static_cast<int>(what));
  };
  for (std::size_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (std::size_t i = r * columns; i < (r + 1) * columns; ++i) {
      double exact = as_double(given.residual[i]);
      double size = std::abs(exact);
      for (int k = 0; k < n; ++k) {
        exact += as_double(value<T>(k, i, salt));
        size += std::abs(as_double(value<T>(k, i, salt)));
      }
      double const h = as_double(got.residual[i]);
      if (!(std::abs(h - exact) <= tolerance<T>(exact, size, n + 1))) {
        return where("the residual", i);
      }
      squares += h * h;
    }
    double const root = std::sqrt(squares / static_cast<double>(columns) + double{epsilon});
    auto const normed = [&](std::size_t i) {
      return as_double(got.residual[i]) / root * as_double(given.weight[i % columns]);
    };
    double most = 0;
    for (std::size_t i = r * columns; i < (r + 1) * columns; ++i) {
      most = std::max(most, std::abs(normed(i)));
    }
    double const wanted = most == 0 ? 1 : most / 448;
    double const scale = what == output::fp8 ? double{got.scales[r]} : double{fixed_scale};
    if (what == output::fp8 && !(std::abs(scale - wanted) <= wanted * 0x1p-19)) {
      return where("the scale", r);
    }
    for (std::size_t i = r * columns; i < (r + 1) * columns; ++i) {
      double const exact = normed(i);
      if (what >= output::fp8) {
        double const in = std::clamp(exact / scale, -448.0, 448.0);
        double const v = static_cast<double>(static_cast<float>(got.small[i]));
        if (!(std::abs(v - in) <= std::abs(in) * (0x1p-4 + 0x1p-18) + 0x1p-10)) {
          return where("the 8-bit output", i);
        }
      } else {
        double const v = as_double(what == output::over_input ? got.x[i] : got.normed[i]);
        if (!(std::abs(v - exact) <= std::abs(exact) * last + 0x1p-100)) {
          return where("the output", i);
        }
      }
    }
  }
  return "";
}

/// Everything a call left, as bits that all ranks must agree on.
template <class T>
std::uint64_t bits_of(operands<T> const& o, output what) {
  std::uint64_t hash = 14695981039346656037u;
  auto const add = [&](auto const& all) {
    for (std::byte const b : std::as_bytes(std::span{all})) {
      hash = (hash ^ static_cast<std::uint64_t>(b)) * 1099511628211u;
    }
  };
  add(o.residual);
  if (what == output::over_input) { add(o.x); }
  add(o.normed);
  add(o.small);
  add(o.scales);
  return hash;
}

/// Calls run(epilogue) with the one whose output is asked for.
template <class T, class F>
void with_epilogue(T const* residual, T const* weight, T* x, T* normed, float8_e4m3* small,
                   float* scales, std::size_t rows, std::size_t columns, output what, F&& run) {
  if (what >= output::fp8) {
    add_rms_norm const norm{residual, weight, small, columns, epsilon};
    if (what == output::fp8) {
      run(add_rms_norm_fp8{norm, scale_per_row{scales}});
    } else {
      run(add_rms_norm_fp8{norm, given_scale{scales + rows}});
    }
  } else {
    run(add_rms_norm{residual, weight, what == output::normed ? normed : x, columns, epsilon});
  }
}

/// One call on the CPU, and what was wrong.
template <class T, class Comm>
std::string compare_rows(Comm& comm, std::size_t rows, std::size_t columns, output what,
                         unsigned salt, std::uint64_t* bits = nullptr) {
  operands<T> o{comm.rank(), rows, columns, salt};
  with_epilogue(o.residual.data(), o.weight.data(), o.x.data(), o.normed.data(), o.small.data(),
                o.scales.data(), rows, columns, what,
                [&](auto epilogue) { allreduce(comm, o.x, o.residual, Sum{}, epilogue); });
  if (bits != nullptr) { *bits = bits_of(o, what); }
  return differs(o, comm.size(), rows, columns, what, salt);
}

}  // namespace row_epilogues
