// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "explorer.hpp"

#include <tpx/protocol/block.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace explore {

using element = std::int32_t;
inline constexpr element untouched = 0x5a5a5a5a;
inline constexpr std::size_t slot_bytes = 64;
inline constexpr std::size_t piece = slot_bytes / sizeof(element);

enum class kind {
  one_shot,
  allreduce,
  reduce_scatter,
  allgather,
  broadcast,
  gather,
  barrier,
  one_at_once,  // turns at the cells from here on, see turns.hpp
  one_streamed,
  two_at_once,
  two_streamed,
  scatter_at_once,
  scatter_streamed,
  allgather_at_once,
  allgather_streamed,
  to_all,
  to_one,
  to_all_streamed,
  to_one_streamed,
  rows_one,
  rows_two,
  empty_turn
};
inline constexpr char const* names[] = {"one-shot all-reduce",
                                        "all-reduce",
                                        "reduce-scatter",
                                        "all-gather",
                                        "broadcast",
                                        "gather",
                                        "barrier",
                                        "one-shot all-reduce at once",
                                        "streamed one-shot all-reduce",
                                        "two-shot all-reduce at once",
                                        "streamed two-shot all-reduce",
                                        "reduce-scatter at once",
                                        "streamed reduce-scatter",
                                        "all-gather at once",
                                        "streamed all-gather",
                                        "broadcast at once",
                                        "gather at once",
                                        "streamed broadcast",
                                        "streamed gather",
                                        "one-shot all-reduce of rows",
                                        "two-shot all-reduce of rows",
                                        "barrier"};

/// One collective: what each rank brings, what it must end with, and what it ends with.
struct call {
  kind what = kind::barrier;
  std::uint64_t signature = 0;
  std::size_t n = 0;
  std::size_t rows = 1;
  int root = 0;
  bool in_place = false;
  std::size_t in_pitch = 0;
  std::size_t out_pitch = 0;
  tpx::columns source{};
  tpx::columns target{};
  std::vector<element> in[tpx::max_ranks];
  std::vector<element> out[tpx::max_ranks];
  std::vector<element> want[tpx::max_ranks];
  std::vector<element> arrived;  // a word a thread that comes to the barrier

  /// The first value that is not the oracle's, or "".
  [[nodiscard]] std::string difference(int ranks) const {
    for (int r = 0; r < ranks; ++r) {
      auto const [got, wanted] = std::mismatch(out[r].begin(), out[r].end(), want[r].begin());
      if (got != out[r].end()) {
        return std::string{names[static_cast<std::size_t>(what)]} + " of " + std::to_string(n) +
               " by " + std::to_string(ranks) + " ranks: rank " + std::to_string(r) + " has " +
               std::to_string(*got) + " at " + std::to_string(got - out[r].begin()) + ", not " +
               std::to_string(*wanted);
      }
    }
    return {};
  }
};

/// The windows of all ranks, each an allocation of its own so that a sanitizer sees their ends.
class windows {
 public:
  setting make(int ranks, int channels, unsigned threads, std::size_t area_cells = 0) {
    setting s{{ranks, channels, slot_bytes, area_cells}, {}, threads};
    for (int r = 0; r < ranks; ++r) {
      auto& lines = memory_[r];
      lines.assign(s.layout.bytes() / sizeof(line), line{});
      s.windows[r] = reinterpret_cast<std::byte*>(lines.data());
    }
    return s;
  }

 private:
  struct alignas(tpx::cache_line) line {
    std::byte bytes[tpx::cache_line];
  };
  std::vector<line> memory_[tpx::max_ranks];
};

/// How a scenario may leave the rules, to see that it is noticed.
enum class twist {
  none,
  another_call,  ///< one rank's second call has another signature
  stays_away,    ///< one rank leaves after its first call
};

/// A protocol on a topology and a way to lay messages out, by name; and what its runs must end in.
struct variant {
  char const* topology;
  kind what;
  outcome (*play)(scheduler&, windows&, kind, std::uint64_t, twist);
  twist how = twist::none;

  [[nodiscard]] std::string name() const {
    static constexpr char const* hows[] = {"", ", a call differs", ", a rank stays away"};
    return std::string{topology} + ' ' + names[static_cast<std::size_t>(what)] +
           hows[static_cast<std::size_t>(how)];
  }

  [[nodiscard]] outcome run(scheduler& s, windows& memory, std::uint64_t seed) const {
    static constexpr verdict expected[] = {verdict::good, verdict::mismatch, verdict::deadlock};
    outcome o = play(s, memory, what, seed, how);
    o.failed = o.kind != expected[static_cast<std::size_t>(how)];
    if (o.failed && o.what.empty()) { o.what = "nothing was noticed"; }
    return o;
  }
};

}  // namespace explore
