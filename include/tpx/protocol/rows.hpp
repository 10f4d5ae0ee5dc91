// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/packing.hpp>
#include <tpx/space.hpp>

#include <limits>
#include <string_view>

namespace tpx {

/// Partial sums of a row, whatever the threads: a packet k is of sum k mod row_lanes. Also the
/// threads of a GPU that do a row.
inline constexpr unsigned row_lanes = 1024;

/// One reduced row, as the threads of a team have it together: what an epilogue of rows is given.
/// All of them call the same members in the same order; f is called by whichever has the element.
///
/// Values are those stored in the output, rounded to T, and are given as the type A that T is added
/// in. Order of a sum: within each packet of 16 bytes from left to right, then packets k, k + 1024,
/// k + 2048, ..., then these partial sums in pairs of neighbours, then pairs of pairs, to the last.
/// So the same in every space and for any number of threads.
template <class T, class Group>
class row_of {
  using A = accumulate_t<T>;
  static constexpr unsigned lanes = row_lanes / Group::template threads<row_lanes>;  // a thread's

 public:
  TPX_HD row_of(Group const& threads, T const* values, std::size_t columns, std::size_t index)
      : threads_{threads},
        columns_{columns},
        index_{index},
        row_{values, read_packet(values, columns, packet_of(0))} {}

  /// If this thread has the first of its packets already.
  TPX_HD row_of(Group const& threads, T const* values, std::size_t columns, std::size_t index,
                packet const& first)
      : threads_{threads}, columns_{columns}, index_{index}, row_{values, first} {}

  [[nodiscard]] TPX_HD std::size_t index() const { return index_; }
  [[nodiscard]] TPX_HD std::size_t columns() const { return columns_; }

  /// An array of shape (columns), of which f then is given the elements, fetched 16 bytes at a
  /// time; from here on, which is best before the first sum.
  template <element U, class Words = beside<T, U>>
  struct array {
    U const* values;
    Words first;  // for this thread's first packet: mostly the only one

    [[nodiscard]] TPX_HD Words at(std::size_t columns, std::size_t k) const {
      return read_words<per_packet<T>, Words>(values, columns, k);
    }
  };
  template <element U>
  [[nodiscard]] TPX_HD array<U> fetch(U const* values) const {
    return {values, array<U>{values, {}}.at(columns_, packet_of(0))};
  }

  /// Of f(value, column, elements of the arrays...) over the row.
  template <class F, element... U>
  [[nodiscard]] TPX_HD A sum(F const& f, array<U> const&... with) const {
    return fold(A{}, Sum{}, f, with...);
  }
  template <class F, element... U>
  [[nodiscard]] TPX_HD A max(F const& f, array<U> const&... with) const {
    return fold(least, Max{}, f, with...);
  }

  /// Stores f(value, column, elements of the arrays...), rounded to Out, in this row of `to`, of
  /// shape (rows, columns), which may be the all-reduce's input.
  template <element Out, class F, element... U>
  TPX_HD void store(Out* to, F const& f, array<U> const&... with) const {
    auto const stored = [&](unsigned, std::size_t k, packet const& p, beside<T, U> const&... b) {
      beside<T, Out> made{};
      each_element(k, [&](unsigned j, std::size_t c) {
        detail::put(
          made, j,
          static_cast<Out>(f(static_cast<A>(detail::get<T>(p, j)), c, detail::get<U>(b, j)...)));
      });
      write_words<per_packet<T>>(to + index_ * columns_, columns_, k, made);
    };
    each_packet(stored, row_, with...);
  }

  /// Stores one value for the row in `to`, of shape (rows).
  template <element Out>
  TPX_HD void set(Out* to, Out value) const {
    if (packet_of(0) == 0) { to[index_] = value; }
  }

 private:
  static constexpr A least = std::numeric_limits<A>::lowest();

  template <class Op, class F, element... U>
  [[nodiscard]] TPX_HD A fold(A none, Op const& op, F const& f, array<U> const&... with) const {
    A lane[lanes];
    TPX_UNROLL
    for (unsigned m = 0; m < lanes; ++m) { lane[m] = none; }
    auto const folded = [&](unsigned m, std::size_t k, packet const& p, beside<T, U> const&... b) {
      each_element(k, [&](unsigned j, std::size_t c) {
        lane[m] = op(lane[m], f(static_cast<A>(detail::get<T>(p, j)), c, detail::get<U>(b, j)...));
      });
    };
    each_packet(folded, row_, with...);
    threads_.reduce(lane, op);
    auto const packets = packets_of<T>(columns_);
    auto const filled = static_cast<unsigned>(packets < lanes ? packets : lanes);
    TPX_UNROLL
    for (unsigned s = 1; s < lanes; s *= 2) {
      TPX_UNROLL
      for (unsigned m = 0; m + s < lanes; m += 2 * s) {
        if (m + s >= filled) { break; }
        lane[m] = op(lane[m], lane[m + s]);
      }
    }
    return lane[0];
  }

  /// The i-th packet of this thread.
  [[nodiscard]] TPX_HD std::size_t packet_of(std::size_t i) const {
    unsigned const team = threads_.size() * threads_.members();
    return threads_.member() * threads_.size() + threads_.thread_rank() + i * team;
  }

  /// f(lane, packet's index, words of the arrays...) for each of this thread's.
  template <class F, class... Arrays>
  TPX_HD void each_packet(F const& f, Arrays const&... of) const {
    auto const packets = packets_of<T>(columns_);
    if (packet_of(0) < packets) { f(0, packet_of(0), of.first...); }
    TPX_ROLLED
    for (std::size_t i = 1; packet_of(i) < packets; ++i) {
      f(static_cast<unsigned>(i % lanes), packet_of(i), of.at(columns_, packet_of(i))...);
    }
  }

  /// f(index in packet `k`, column)
  template <class F>
  TPX_HD void each_element(std::size_t k, F const& f) const {
    std::size_t const c = k * per_packet<T>;
    auto const left =
      static_cast<unsigned>(columns_ - c < per_packet<T> ? columns_ - c : per_packet<T>);
    TPX_UNROLL
    for (unsigned j = 0; j < per_packet<T>; ++j) {
      if (j < left) { f(j, c + j); }
    }
  }

  Group const& threads_;
  std::size_t columns_;
  std::size_t index_;
  array<T, packet> row_;
};

/// Gives each reduced row to the epilogue, where the all-reduce that made them could not.
template <class T, class Epilogue>
struct row_pass {
  T const* values;  // (rows, epilogue.columns)
  std::size_t rows;
  Epilogue epilogue;

  static constexpr std::string_view name = "queues, rows";
  static constexpr unsigned block_threads = row_lanes;
  static constexpr unsigned resident_threads = row_lanes;

  /// Where a block does a row.
  [[nodiscard]] unsigned blocks() const { return static_cast<unsigned>(rows < 1024 ? rows : 1024); }

  template <folding_group Group>
  TPX_HD void operator()(Group const& group) const {
    std::size_t const columns = epilogue.columns;
    group.meet();
    for (std::size_t r = group.channel(); r < rows; r += group.channels()) {
      epilogue.row(row_of<T, Group>{group, values + r * columns, columns, r});
    }
  }
};

}  // namespace tpx
