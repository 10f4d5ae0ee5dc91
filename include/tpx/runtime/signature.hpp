// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/number.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tpx {

enum class collective : std::uint8_t {
  none,
  allreduce,
  broadcast,
  gather,
  allgather,
  reduce_scatter,
  barrier,
  agree,
  share,
  reset
};

[[nodiscard]] constexpr std::string_view name(collective kind) {
  constexpr std::string_view names[]{"none",      "allreduce",      "broadcast", "gather",
                                     "allgather", "reduce_scatter", "barrier",   "agree",
                                     "share",     "reset"};
  return names[static_cast<std::uint8_t>(kind)];
}

/// What a rank says it is calling, packed into one word that travels with its data, so that two
/// ranks that call different things find out at once and can say which.
struct call_signature {
  collective kind = collective::none;  // 4 bits
  dtype type = dtype::other;           // 4 bits
  std::uint16_t op = 0;                // 16 bits: the reduction, and a hash of what else must agree
  int root = 0;                        // 4 bits
  std::uint64_t count = 0;             // 36 bits, elements on one rank

  static constexpr std::uint64_t max_count = (std::uint64_t{1} << 36) - 1;

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return static_cast<std::uint64_t>(kind) << 60 | static_cast<std::uint64_t>(type) << 56 |
           static_cast<std::uint64_t>(op) << 40 | static_cast<std::uint64_t>(root & 15) << 36 |
           (count & max_count);
  }

  [[nodiscard]] static constexpr call_signature unpack(std::uint64_t word) {
    return {static_cast<collective>(word >> 60), static_cast<dtype>(word >> 56 & 15),
            static_cast<std::uint16_t>(word >> 40), static_cast<int>(word >> 36 & 15),
            word & max_count};
  }
};

/// "allreduce(1000 x float32, sum)"; words that no tpx wrote are described, never trusted.
[[nodiscard]] inline std::string to_string(call_signature const& call) {
  if (call.kind > collective::reset || call.type > dtype::other) { return "no tpx operation"; }
  std::string text{name(call.kind)};
  if (call.kind == collective::barrier || call.kind == collective::none) { return text; }
  text += '(' + std::to_string(call.count) + " x ";
  text += name(call.type);
  constexpr std::string_view ops[]{"", "sum", "prod", "max", "min"};
  if (call.op >= 1 && call.op <= 4) {
    text += ", ";
    text += ops[call.op];
  } else if (call.op != 0) {
    text += ", layout or operation " + std::to_string(call.op);
  }
  if (call.kind == collective::broadcast || call.kind == collective::gather) {
    text += ", root " + std::to_string(call.root);
  }
  return text + ')';
}

}  // namespace tpx
