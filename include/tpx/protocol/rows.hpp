// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/packing.hpp>
#include <tpx/space.hpp>

#include <limits>
#include <string_view>

namespace tpx {

/// Partial sums of a row, whatever the threads: a packet k is of sum k mod row_lanes.
inline constexpr unsigned row_lanes = 1024;

/// Threads of a block that does a row, unless the protocol says otherwise.
inline constexpr unsigned row_threads = 256;

/// One reduced row, as the threads of a channel have it together: what an epilogue of rows is
/// given. All of them call the same members in the same order; f is called by whichever has the
/// element.
///
/// Values are those stored in the output, rounded to T, and are given as the type A that T is added
/// in. Order of a sum: within each packet of 16 bytes from left to right, then packets k, k + 1024,
/// k + 2048, ..., then these partial sums in pairs of neighbours, then pairs of pairs, to the last.
/// So the same in every space and for any number of threads.
template <class T, class Group, unsigned Threads>
class row_of {
  using A = accumulate_t<T>;

 public:
  TPX_HD row_of(Group const& threads, T const* values, std::size_t columns, std::size_t index)
      : threads_{threads},
        values_{values},
        columns_{columns},
        index_{index},
        first_{read_packet(values, columns, threads.thread_rank())} {}

  [[nodiscard]] TPX_HD std::size_t index() const { return index_; }
  [[nodiscard]] TPX_HD std::size_t columns() const { return columns_; }

  /// Of f(value, column) over the row.
  template <class F>
  [[nodiscard]] TPX_HD A sum(F const& f) const {
    return fold(A{}, Sum{}, f);
  }
  template <class F>
  [[nodiscard]] TPX_HD A max(F const& f) const {
    return fold(least, Max{}, f);
  }

  /// Stores f(value, column), rounded to Out, in this row of `to`, of shape (rows, columns), which
  /// may be the all-reduce's input.
  template <element Out, class F>
  TPX_HD void store(Out* to, F const& f) const {
    each_packet([&](unsigned, std::size_t k, packet const& p) {
      words<per_packet<T> * sizeof(Out)> made{};
      each_element(k, p, [&](A v, unsigned j, std::size_t c) {
        detail::put(made, j, static_cast<Out>(f(v, c)));
      });
      write_words<per_packet<T>>(to + index_ * columns_, columns_, k, made);
    });
  }

  /// Stores one value for the row in `to`, of shape (rows).
  template <element Out>
  TPX_HD void set(Out* to, Out value) const {
    if (threads_.thread_rank() == 0) { to[index_] = value; }
  }

 private:
  static constexpr unsigned lanes = row_lanes / Group::template threads<Threads>;  // each thread's
  static constexpr A least = std::numeric_limits<A>::lowest();

  template <class Op, class F>
  [[nodiscard]] TPX_HD A fold(A none, Op const& op, F const& f) const {
    A lane[lanes];
    TPX_UNROLL
    for (unsigned m = 0; m < lanes; ++m) { lane[m] = none; }
    each_packet([&](unsigned m, std::size_t k, packet const& p) {
      each_element(k, p, [&](A v, unsigned, std::size_t c) { lane[m] = op(lane[m], f(v, c)); });
    });
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

  /// f(lane, packet's index, packet) for each of this thread's.
  template <class F>
  TPX_HD void each_packet(F const& f) const {
    std::size_t const packets = packets_of<T>(columns_);
    std::size_t const step = threads_.size();
    for (std::size_t from = threads_.thread_rank(); from < packets; from += step * lanes) {
      TPX_UNROLL
      for (unsigned m = 0; m < lanes; ++m) {
        std::size_t const k = from + m * step;
        if (k >= packets) { break; }
        f(m, k, k < step ? first_ : read_packet(values_, columns_, k));
      }
    }
  }

  /// f(value, its index in the packet, column)
  template <class F>
  TPX_HD void each_element(std::size_t k, packet const& p, F const& f) const {
    TPX_UNROLL
    for (unsigned j = 0; j < per_packet<T>; ++j) {
      std::size_t const c = k * per_packet<T> + j;
      if (c < columns_) { f(static_cast<A>(detail::get<T>(p, j)), j, c); }
    }
  }

  Group const& threads_;
  T const* values_;
  std::size_t columns_;
  std::size_t index_;
  packet first_;  // of this thread: mostly the only one
};

/// Gives each reduced row to the epilogue, where the all-reduce that made them could not.
template <class T, class Epilogue>
struct row_pass {
  T const* values;  // (rows, epilogue.columns)
  std::size_t rows;
  Epilogue epilogue;

  static constexpr std::string_view name = "queues, rows";
  static constexpr unsigned block_threads = row_threads;

  /// Where a block does a row.
  [[nodiscard]] unsigned blocks() const { return static_cast<unsigned>(rows < 1024 ? rows : 1024); }

  template <folding_group Group>
  TPX_HD void operator()(Group const& group) const {
    std::size_t const columns = epilogue.columns;
    for (std::size_t r = group.channel(); r < rows; r += group.channels()) {
      epilogue.row(row_of<T, Group, row_threads>{group, values + r * columns, columns, r});
    }
  }
};

}  // namespace tpx
