// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/number.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace tpx {

/// A row-major matrix of weights that lies elsewhere, such as in a mapped file; any alignment of
/// bfloat16. A slice of columns is a view too: its pitch stays the whole matrix's.
struct weight_view {
  bfloat16 const* data = nullptr;  // (rows, cols), rows `pitch` elements apart
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t pitch = 0;

  constexpr weight_view() = default;
  constexpr weight_view(bfloat16 const* first, std::size_t n_rows, std::size_t n_cols)
      : weight_view{first, n_rows, n_cols, n_cols} {}
  constexpr weight_view(bfloat16 const* first, std::size_t n_rows, std::size_t n_cols,
                        std::size_t row_pitch)
      : data{first}, rows{n_rows}, cols{n_cols}, pitch{row_pitch} {}

  [[nodiscard]] constexpr bfloat16 const* row(std::size_t r) const { return data + r * pitch; }
};

namespace detail {

/// Throws unless `have` values are at least (rows, cols).
inline void expect_shape(char const* what, std::size_t have, std::size_t rows, std::size_t cols) {
  if (have < rows * cols) {
    throw error{errc::invalid_argument, std::string{what} + " has " + std::to_string(have) +
                                          " values where (" + std::to_string(rows) + ", " +
                                          std::to_string(cols) + ") are needed"};
  }
}

}  // namespace detail
}  // namespace tpx
