// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace tpx {

/// Units `begin` up to but without `end` of a split axis: heads for Kv and Q, columns otherwise.
struct shard_range {
  std::size_t begin = 0;
  std::size_t end = 0;

  [[nodiscard]] TPX_HD constexpr std::size_t size() const noexcept { return end - begin; }
  [[nodiscard]] TPX_HD constexpr bool empty() const noexcept { return begin == end; }
  [[nodiscard]] TPX_HD constexpr bool contains(std::size_t unit) const noexcept {
    return begin <= unit && unit < end;
  }
  /// The columns of a tensor that has `dim` columns a unit, such as head_dim for heads.
  [[nodiscard]] TPX_HD constexpr shard_range columns(std::size_t dim) const noexcept {
    return {begin * dim, end * dim};
  }

  friend constexpr bool operator==(shard_range const&, shard_range const&) = default;
};

namespace split {

/// What makes a split tensor whole again.
enum class join {
  none,    ///< nothing: it is used where it lies
  reduce,  ///< the row-parallel matrix that follows, whose partial outputs are summed over the
           ///< ranks
  gather,  ///< its pieces side by side
};

}  // namespace split

/// Which axis of a tensor is cut, and what joins it. The quantum is the plan's (`split_options`),
/// because it depends on the weights' format.
template <class T>
concept split_kind = std::is_empty_v<T> && requires {
  { T::name } -> std::convertible_to<std::string_view>;
  { T::axis } -> std::convertible_to<std::string_view>;
  { T::joined_by } -> std::convertible_to<split::join>;
};

namespace split {

/// Key/value heads: k and v projections and the cache. A head lies on several ranks where there are
/// more ranks than heads.
struct Kv {
  static constexpr std::string_view name = "Kv";
  static constexpr std::string_view axis = "key/value heads";
  static constexpr join joined_by = join::none;
};
static_assert(split_kind<Kv>);

/// Query heads: q's columns and o's rows, on the rank that has their key/value head.
struct Q {
  static constexpr std::string_view name = "Q";
  static constexpr std::string_view axis = "query heads";
  static constexpr join joined_by = join::reduce;
};
static_assert(split_kind<Q>);

/// MLP columns: gate's and up's columns and down's rows.
struct Id {
  static constexpr std::string_view name = "Id";
  static constexpr std::string_view axis = "MLP columns";
  static constexpr join joined_by = join::reduce;
};
static_assert(split_kind<Id>);

/// Vocabulary: the head's columns, one logit each.
struct Vc {
  static constexpr std::string_view name = "Vc";
  static constexpr std::string_view axis = "vocabulary";
  static constexpr join joined_by = join::gather;
};
static_assert(split_kind<Vc>);

/// Rows that are reduced: the part of the hidden state that a rank sums and keeps.
struct Rs {
  static constexpr std::string_view name = "Rs";
  static constexpr std::string_view axis = "hidden columns";
  static constexpr join joined_by = join::gather;
};
static_assert(split_kind<Rs>);

/// Not a cut: every rank has the whole axis. The target of a gather that leaves all on every rank.
struct All {
  static constexpr std::string_view name = "All";
};
static_assert(!split_kind<All>);

}  // namespace split

/// Where a gather or a broadcast may put an axis: cut by a kind, or whole on every rank.
template <class T>
concept split_target = split_kind<T> || std::same_as<T, split::All>;
static_assert(split_target<split::Id> && split_target<split::All>);

}  // namespace tpx
