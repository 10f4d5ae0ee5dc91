// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "checkpoint.hpp"

#include <tpx/group.hpp>
#include <tpx/split_plan.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace llama {

/// One rank's part of a model that runs one sequence, whatever its communicator is made of. For
/// programs that choose the communicator when they run; the others use model and sequence.
class engine {
 public:
  virtual ~engine() = default;

  /// See sequence.
  [[nodiscard]] virtual std::span<float const> forward(std::span<std::int32_t const> tokens) = 0;
  [[nodiscard]] virtual std::int32_t greedy(std::span<std::int32_t const> tokens) = 0;

  /// What the communicator has done so far.
  struct counts {
    std::uint64_t calls;
    std::uint64_t ns;
  };
  [[nodiscard]] virtual counts collectives() const = 0;
};

/// Names of transports and topologies, as they are chosen on a command line.
inline constexpr std::string_view transports[]{"HostPinned", "PeerDirect"};
inline constexpr std::string_view topologies[]{"Auto", "AllPairs", "Ring", "Tree"};

/// Reads this rank's slices of a checkpoint, for a sequence of up to `max_tokens`; `loading` gets
/// the part done, from 0 to 1. All ranks of `g` call it with the same arguments.
/// Errors  invalid_argument for a name that is not above; else those of model.
[[nodiscard]] std::unique_ptr<engine> make_engine(
  std::string_view transport, std::string_view topology, tpx::group& g, checkpoint const& files,
  tpx::split_plan const& plan, std::size_t max_tokens, std::function<void(double)> loading = {});

}  // namespace llama
