// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/number.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace tpx {

/// Bytes of one element; 0 for types that tpx has no name for.
[[nodiscard]] constexpr std::size_t size_of(dtype type) {
  constexpr std::size_t sizes[]{4, 8, 2, 2, 1, 2, 4, 8, 1, 2, 4, 8, 1};
  auto const index = static_cast<std::size_t>(type);
  return index < std::size(sizes) ? sizes[index] : 0;
}

namespace detail {

/// extents[0] * extents[1] * .. * factor, if it fits. An extent of 0 gives 0.
[[nodiscard]] constexpr std::optional<std::size_t> product(std::span<std::size_t const> extents,
                                                           std::size_t factor) {
  for (auto const e : extents) {
    if (e == 0) { return 0; }
  }
  for (auto const e : extents) {
    if (factor > static_cast<std::size_t>(-1) / e) { return std::nullopt; }
    factor *= e;
  }
  return factor;
}

}  // namespace detail

/// Elements in host memory that somebody else owns, dense, the last extent running fastest.
struct tensor_view {
  static constexpr int max_dims = 8;

  std::byte const* data = nullptr;
  dtype type = dtype::uint8;
  int dims = -1;  // 0: one element; -1: no tensor at all
  std::array<std::size_t, max_dims> shape{};

  /// No tensor, which can be sent as such.
  tensor_view() = default;

  /// Errors: invalid_argument, more than 8 extents.
  template <element T>
  tensor_view(T const* elements, std::span<std::size_t const> extents)
      : data{reinterpret_cast<std::byte const*>(elements)},
        type{dtype_of<T>()},
        dims{static_cast<int>(extents.size())} {
    expects(extents.size() <= max_dims,
            "a tensor of " + std::to_string(extents.size()) + " dimensions; 8 is the most");
    for (std::size_t i = 0; i < extents.size(); ++i) { shape[i] = extents[i]; }
  }

  template <element T>
  tensor_view(T const* elements, std::initializer_list<std::size_t> extents)
      : tensor_view{elements, std::span{extents.begin(), extents.size()}} {}

  [[nodiscard]] bool empty() const { return dims < 0 || elements() == 0; }

  /// False: no tensor.
  explicit operator bool() const { return dims >= 0; }

  [[nodiscard]] std::span<std::size_t const> extents() const {
    return {shape.data(), static_cast<std::size_t>(dims < 0 ? 0 : dims)};
  }

  /// Errors: invalid_argument, more elements than memory has bytes.
  [[nodiscard]] std::size_t elements() const { return times(1); }
  [[nodiscard]] std::size_t bytes() const { return times(size_of(type)); }

  /// The elements as what they are. Errors: invalid_argument, T is not the type of the elements.
  template <element T>
  [[nodiscard]] std::span<T const> as() const {
    static_assert(dtype_of<T>() != dtype::other, "tpx has no name for this element type");
    if (dims < 0) { return {}; }
    expects(type == dtype_of<T>(), [&] {
      return "the tensor holds " + std::string{name(type)} + " and is read as " +
             std::string{name(dtype_of<T>())};
    });
    expects(reinterpret_cast<std::uintptr_t>(data) % alignof(T) == 0,
            "the tensor's address is not a multiple of " + std::to_string(alignof(T)));
    return {reinterpret_cast<T const*>(data), elements()};
  }

 private:
  [[nodiscard]] std::size_t times(std::size_t factor) const {
    if (dims < 0) { return 0; }
    auto const n = detail::product(extents(), factor);
    expects(n.has_value(), "the tensor's shape has more elements than memory has bytes");
    return *n;
  }
};

}  // namespace tpx
