// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "model.hpp"

#include <memory>
#include <string_view>

namespace llama {

/// A model, for programs that choose its communicator when they run. All ranks make the same calls.
class engine {
 public:
  static constexpr std::size_t page_size = 32;

  virtual ~engine() = default;

  /// See model.
  virtual std::span<float> forward(std::span<tpx::step_part const> parts) = 0;
  virtual std::span<float> forward_own(std::span<tpx::step_part const> parts) = 0;
  [[nodiscard]] virtual std::span<float> own_logits() const = 0;
  [[nodiscard]] virtual tpx::shard_range own() const = 0;
  virtual void max(std::span<std::uint64_t> values) = 0;
  virtual void sum(std::span<std::uint64_t> values) = 0;
  virtual std::size_t check(std::span<tpx::step_part const> parts) const = 0;
  virtual void copy(std::span<tpx::page_copy const> copies) = 0;
  virtual void store(tpx::page_id page, std::uint32_t host, std::size_t tokens) = 0;
  virtual void fetch(std::uint32_t host, tpx::page_id page, std::size_t tokens) = 0;
  [[nodiscard]] virtual std::size_t vocab_size() const = 0;
  [[nodiscard]] virtual std::size_t pages() const = 0;
  [[nodiscard]] virtual std::size_t max_tokens() const = 0;
  [[nodiscard]] virtual std::size_t host_pages() const = 0;

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

/// Reads this rank's slices of a checkpoint. All ranks of `g` call it with the same arguments.
/// Errors  invalid_argument for a name that is not above; else those of model.
[[nodiscard]] std::unique_ptr<engine> make_engine(std::string_view transport,
                                                  std::string_view topology, tpx::group& g,
                                                  checkpoint const& files,
                                                  tpx::split_plan const& plan,
                                                  model_options const& options);

}  // namespace llama
