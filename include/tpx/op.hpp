// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/number.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tpx {

/// A reduction over values of A: a trivially copyable function object (A, A) -> A.
///
/// It must be associative and commutative up to rounding, since topologies differ in the order
/// they apply it; one that is not commutative declares `static constexpr bool commutative = false`
/// and is then accepted by AllPairs and Auto alone, which apply it in rank order.
template <class Op, class A>
concept reduction = std::is_trivially_copyable_v<Op> && requires(Op const op, A const a) {
  { op(a, a) } -> std::convertible_to<A>;
};

namespace detail {

/// The unsigned twin of an integer wide enough not to promote to a signed type, so that overflow
/// wraps; other types as they are.
template <class A, bool = std::is_integral_v<A>>
struct wrapping {
  using type = A;
};
template <class A>
struct wrapping<A, true> {
  using type = std::common_type_t<std::make_unsigned_t<A>, unsigned>;
};
template <class A>
using wrapping_t = typename wrapping<A>::type;

}  // namespace detail

/// a + b; integers wrap.
struct Sum {
  static constexpr std::uint16_t code = 1;
  template <class A>
  TPX_HD constexpr A operator()(A a, A b) const {
    using w = detail::wrapping_t<A>;
    return static_cast<A>(static_cast<w>(a) + static_cast<w>(b));
  }
};
static_assert(reduction<Sum, float>);

/// a * b; integers wrap.
struct Prod {
  static constexpr std::uint16_t code = 2;
  template <class A>
  TPX_HD constexpr A operator()(A a, A b) const {
    using w = detail::wrapping_t<A>;
    return static_cast<A>(static_cast<w>(a) * static_cast<w>(b));
  }
};
static_assert(reduction<Prod, double>);

/// The larger; a NaN on either side gives a NaN.
struct Max {
  static constexpr std::uint16_t code = 3;
  template <class A>
  TPX_HD constexpr A operator()(A a, A b) const {
    return a > b || a != a ? a : b;
  }
};
static_assert(reduction<Max, float>);

/// The smaller; a NaN on either side gives a NaN.
struct Min {
  static constexpr std::uint16_t code = 4;
  template <class A>
  TPX_HD constexpr A operator()(A a, A b) const {
    return a < b || a != a ? a : b;
  }
};
static_assert(reduction<Min, int>);

/// What is done to a reduced value, in the precision of the sum, before it is rounded to its type
/// and stored: (A reduced, std::size_t index) -> A, where `index` counts elements of the output.
///
/// It runs on whichever rank finishes the element, so it must give the same on every rank.
template <class E, class A>
concept epilogue = std::is_trivially_copyable_v<E> &&
  requires(E const e, A const a, std::size_t i) {
  { e(a, i) } -> std::convertible_to<A>;
};

/// Leaves the reduced value as it is.
struct no_epilogue {
  template <class A>
  TPX_HD constexpr A operator()(A reduced, std::size_t) const {
    return reduced;
  }
};
static_assert(epilogue<no_epilogue, float>);

/// An epilogue with `operand()`, an array of the output's shape, of which it takes the element as a
/// third argument. A GPU fetches that 16 bytes at a time and before it waits, where what the
/// epilogue reads by itself is read element by element when the sum is there.
template <class E>
concept operand_epilogue = requires(E const e) {
  *e.operand();
};
template <operand_epilogue E>
using operand_of = std::remove_cvref_t<decltype(*std::declval<E const&>().operand())>;

/// Adds `values[i]`, which must be the same on every rank. With the output laid over `values` this
/// accumulates into a residual stream (exllamav2's tp_all_reduce with `residuals`).
template <class T>
struct add_residual {
  T const* values;  // (n)

  [[nodiscard]] TPX_HD constexpr T const* operand() const { return values; }
  template <class A>
  TPX_HD constexpr A operator()(A reduced, std::size_t, T residual) const {
    return reduced + static_cast<A>(residual);
  }
  template <class A>
  TPX_HD constexpr A operator()(A reduced, std::size_t i) const {
    return (*this)(reduced, i, values[i]);
  }
};
template <class T>
add_residual(T*) -> add_residual<T>;
static_assert(epilogue<add_residual<bfloat16>, float>);

/// An epilogue of rows, for all-reduces of matrices (rows, columns): an epilogue that also has
/// `columns` and a template row(r). Once all of a row's reduced values have been through the
/// former and are stored in the output, row(r) is called with that row (row_of in
/// protocol/rows.hpp): sums over it, and what is stored beside it. Every rank does all rows.
template <class E, class A>
concept row_epilogue = epilogue<E, A> && requires(E const e) {
  { e.columns } -> std::convertible_to<std::size_t>;
};

namespace detail {

/// Sixteen bits that tell one type from another in every process.
template <class T>
consteval std::uint16_t type_code() {
  std::uint32_t hash = 2166136261u;  // FNV-1a
  for (char c : std::string_view{__PRETTY_FUNCTION__}) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  }
  return static_cast<std::uint16_t>((hash ^ (hash >> 16)) | 0x8000u);
}

/// Sixteen bits that name a reduction in every process: its own code, or its type's.
template <class Op>
consteval std::uint16_t op_code() {
  if constexpr (requires { Op::code; }) {
    return Op::code;
  } else {
    return type_code<Op>();
  }
}

template <class Op>
inline constexpr bool commutative = [] {
  if constexpr (requires { Op::commutative; }) {
    return bool{Op::commutative};
  } else {
    return true;
  }
}();

}  // namespace detail
}  // namespace tpx
