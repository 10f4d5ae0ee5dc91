// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/error.hpp>
#include <tpx/split.hpp>
#include <tpx/split_budget.hpp>
#include <tpx/split_fit.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tpx {

/// What every rank of a world has of every split axis.
///
/// The ranges of a kind lie side by side in rank order and cover the axis; a rank may have none.
/// Only Kv may overlap: a query range is either whole groups of query heads, or lies inside one
/// group, and its rank has exactly the key/value heads that it needs. A plan is a small value that
/// every rank can compute for itself: the same input gives the same plan.
class split_plan {
 public:
  /// Ranges that the caller has chosen; Kv's follow from Q's. Throws invalid_argument if they break
  /// a rule above or a quantum.
  constexpr split_plan(model_shape const& shape, int world, split_ranges const& ranges,
                       split_options const& options = {})
      : shape_{shape}, options_{options}, world_{world}, ranges_{ranges} {
    check_world(world);
    detail::check(shape, options);
    check_axis(split::Q::name, ranges.q, shape.query_heads, 1);
    check_axis(split::Id::name, ranges.id, shape.intermediate, options.id_quantum);
    check_axis(split::Vc::name, ranges.vc, shape.vocab, options.vc_quantum);
    check_axis(split::Rs::name, ranges.rs, shape.hidden, options.rs_quantum);
    check_groups();
  }

  /// Equal ranks without limits of memory.
  static constexpr split_plan even(model_shape const& shape, int world,
                                   split_options const& options = {}) {
    check_world(world);
    device_budget const equal[max_ranks]{};
    return fit(shape, std::span{equal}.first(static_cast<std::size_t>(world)), options);
  }

  /// The fastest decode step that the budgets' memory allows: docs/splits.md has the cost model.
  ///
  /// Throws invalid_argument for input that makes no sense, not for want of memory: there the plan
  /// is in proportion to memory, and `split_report` says what is missing.
  static constexpr split_plan fit(model_shape const& shape, std::span<device_budget const> budgets,
                                  split_options const& options = {}) {
    check_world(static_cast<std::ptrdiff_t>(budgets.size()));
    detail::check(shape, options);
    detail::check(budgets);
    return {shape, static_cast<int>(budgets.size()), detail::fit_ranges(shape, budgets, options),
            options};
  }

  [[nodiscard]] constexpr int world() const noexcept { return world_; }
  [[nodiscard]] constexpr model_shape const& shape() const noexcept { return shape_; }
  [[nodiscard]] constexpr split_options const& options() const noexcept { return options_; }

  /// Units of the axis: heads for Kv and Q, columns for Id, Vc and Rs.
  template <split_kind Kind>
  [[nodiscard]] constexpr std::size_t count() const noexcept {
    if constexpr (std::same_as<Kind, split::Kv>) {
      return shape_.kv_heads;
    } else if constexpr (std::same_as<Kind, split::Q>) {
      return shape_.query_heads;
    } else if constexpr (std::same_as<Kind, split::Id>) {
      return shape_.intermediate;
    } else if constexpr (std::same_as<Kind, split::Vc>) {
      return shape_.vocab;
    } else {
      static_assert(std::same_as<Kind, split::Rs>, "a plan holds Kv, Q, Id, Vc and Rs");
      return shape_.hidden;
    }
  }

  /// What `rank` has, in the units of `count`.
  template <split_kind Kind>
  [[nodiscard]] constexpr shard_range range(int rank) const {
    check_rank(rank);
    auto const r = static_cast<std::size_t>(rank);
    if constexpr (std::same_as<Kind, split::Kv>) {
      shard_range const q = ranges_.q[r];
      std::size_t const first = q.begin / shape_.group();
      return {first, q.empty() ? first : (q.end - 1) / shape_.group() + 1};
    } else {
      return of<Kind>()[r];
    }
  }

  /// How many ranks have some.
  template <split_kind Kind>
  [[nodiscard]] constexpr int owners() const {
    int ranks = 0;
    for (int rank = 0; rank < world_; ++rank) { ranks += range<Kind>(rank).empty() ? 0 : 1; }
    return ranks;
  }

  /// Whether all ranks have equally much.
  template <split_kind Kind>
  [[nodiscard]] constexpr bool even() const {
    for (int rank = 1; rank < world_; ++rank) {
      if (range<Kind>(rank).size() != range<Kind>(0).size()) { return false; }
    }
    return true;
  }

  /// Whether some key/value head lies on more than one rank.
  [[nodiscard]] constexpr bool replicated() const {
    std::size_t held = 0;
    for (int rank = 0; rank < world_; ++rank) { held += range<split::Kv>(rank).size(); }
    return held > shape_.kv_heads;
  }

  friend constexpr bool operator==(split_plan const&, split_plan const&) = default;

 private:
  template <split_kind Kind>
  [[nodiscard]] constexpr auto const& of() const noexcept {
    if constexpr (std::same_as<Kind, split::Q>) {
      return ranges_.q;
    } else if constexpr (std::same_as<Kind, split::Id>) {
      return ranges_.id;
    } else if constexpr (std::same_as<Kind, split::Vc>) {
      return ranges_.vc;
    } else {
      return ranges_.rs;
    }
  }

  static constexpr void check_world(std::ptrdiff_t world) {
    if (world < 1 || world > max_ranks) {
      detail::refuse_split(std::to_string(world) + " ranks were asked for",
                           "a plan is for 1 to 16 ranks of one host");
    }
  }

  constexpr void check_rank(int rank) const {
    if (rank < 0 || rank >= world_) {
      detail::refuse_split("rank " + std::to_string(rank) + " was asked for",
                           "this plan has ranks 0 to " + std::to_string(world_ - 1));
    }
  }

  constexpr void check_axis(std::string_view kind, std::array<shard_range, max_ranks> const& ranges,
                            std::size_t extent, std::size_t quantum) const {
    auto const refuse = [&](std::size_t rank, std::string const& fault) {
      refuse_range(kind, rank, ranges[rank], extent, fault);
    };
    std::size_t at = 0;
    for (std::size_t rank = 0; rank < ranges.size(); ++rank) {
      shard_range const mine = ranges[rank];
      if (rank >= static_cast<std::size_t>(world_)) {
        if (!mine.empty()) { refuse(rank, "is not empty past the last rank"); }
        continue;
      }
      if (mine.begin != at) { refuse(rank, "does not begin where the one before ends"); }
      if (mine.end < mine.begin) { refuse(rank, "ends before it begins"); }
      if (mine.end > extent) { refuse(rank, "ends past the axis"); }
      if (mine.end % quantum != 0 && mine.end != extent) {
        refuse(rank, "breaks the quantum of " + std::to_string(quantum));
      }
      at = mine.end;
    }
    if (at != extent) {
      refuse(static_cast<std::size_t>(world_ - 1), "leaves the end of the axis to nobody");
    }
  }

  constexpr void check_groups() const {
    std::size_t const group = shape_.group();
    for (std::size_t rank = 0; rank < ranges_.q.size(); ++rank) {
      shard_range const q = ranges_.q[rank];
      bool const whole = q.begin % group == 0 && q.end % group == 0;
      if (!whole && !q.empty() && (q.end - 1) / group != q.begin / group) {
        refuse_range(split::Q::name, rank, q, shape_.query_heads,
                     "has parts of several key/value heads' groups of " + std::to_string(group));
      }
    }
  }

  static void refuse_range(std::string_view kind, std::size_t rank, shard_range range,
                           std::size_t extent, std::string const& fault) {
    detail::refuse_split(
      "rank " + std::to_string(rank) + "'s range " + std::string{kind} + " [" +
        std::to_string(range.begin) + ", " + std::to_string(range.end) + ") " + fault,
      "ranges go side by side in rank order from 0 to " + std::to_string(extent) +
        "; split_plan::fit and split_plan::even make them");
  }

  model_shape shape_;
  split_options options_;
  int world_;
  split_ranges ranges_;
};

}  // namespace tpx
