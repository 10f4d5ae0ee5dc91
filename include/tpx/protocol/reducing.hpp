// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/packing.hpp>
#include <tpx/protocol/wires.hpp>

namespace tpx {

/// What reductions over cells share: their operands, and folding in rank order.
template <class T, class Op, class Epilogue>
struct reducing {
  wires w;
  T const* in;    // (n)
  T* out;         // (n), may be `in`
  std::size_t n;  // of a row, where there are rows
  Op op;
  Epilogue epilogue;

  /// What this rank has of a packet of the output, apart from what the others give.
  struct own_values {
    packet in;
    fetched<T, Epilogue> beside;
  };

  /// Packet k of the row of the output that begins with element `first`. `got`: by lane.
  [[nodiscard]] TPX_HD own_values own(packet const& mine, std::size_t first, std::size_t k) const {
    return {mine, fetched<T, Epilogue>::of(epilogue, first, n, k)};
  }
  template <int Peers>
  [[nodiscard]] TPX_HD packet folded(own_values const& own, packet const (&got)[Peers - 1],
                                     std::size_t first, std::size_t k) const {
    widened<T> sum{choose(w.rank == 0, own.in, got[0])};
    TPX_UNROLL
    for (int r = 1; r < Peers; ++r) {
      if (r >= w.size()) { break; }
      packet const theirs = r + 1 < Peers ? choose(r > w.rank, got[r - 1], got[r]) : got[r - 1];
      sum.fold(choose(r == w.rank, own.in, theirs), op);
    }
    return sum.finished(epilogue, own.beside, first + k * per_packet<T>, first + n);
  }
};

}  // namespace tpx
