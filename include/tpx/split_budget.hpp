// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <cuda/std/source_location>

#include <cstddef>
#include <limits>
#include <string>

namespace tpx {

/// A Llama-shaped model, as far as a plan must know it. Bytes are those of all layers together.
struct model_shape {
  std::size_t layers = 0;
  std::size_t hidden = 0;
  std::size_t query_heads = 0;
  std::size_t kv_heads = 0;  // divides query_heads
  std::size_t head_dim = 0;
  std::size_t intermediate = 0;  // MLP columns
  std::size_t vocab = 0;
  double weight_bytes = 2;         // a weight of the layers and the head; 0.5625 is 4.5 bits
  double embedding_bytes = 2;      // a weight of the embedding, and of a head that is tied to it
  double cache_bytes = 2;          // an element of the key/value cache
  bool tied_embeddings = false;    // the head is the embedding
  bool attention_bias = false;     // q, k and v have a bias, as in Qwen2
  bool embedding_on_host = false;  // its rows are fetched from there: no rank holds it

  /// Query heads to one key/value head.
  [[nodiscard]] constexpr std::size_t group() const noexcept { return query_heads / kv_heads; }

  /// q's columns and o's rows of one query head.
  [[nodiscard]] constexpr double q_head_bytes() const noexcept {
    return head_bytes(2, attention_bias ? 1 : 0);
  }
  /// k's and v's columns of one key/value head.
  [[nodiscard]] constexpr double kv_head_bytes() const noexcept {
    return head_bytes(2, attention_bias ? 2 : 0);
  }
  /// One token's keys and values of one key/value head.
  [[nodiscard]] constexpr double kv_head_cache_bytes() const noexcept {
    return 2.0 * as(layers) * as(head_dim) * cache_bytes;
  }
  /// One token's keys and values, all heads.
  [[nodiscard]] constexpr double cache_bytes_per_token() const noexcept {
    return as(kv_heads) * kv_head_cache_bytes();
  }
  /// One column of gate and up and one row of down.
  [[nodiscard]] constexpr double id_column_bytes() const noexcept {
    return 3.0 * as(layers) * as(hidden) * weight_bytes;
  }
  /// One token's row of the head, as it is read.
  [[nodiscard]] constexpr double vc_column_bytes() const noexcept {
    return as(hidden) * (tied_embeddings ? embedding_bytes : weight_bytes);
  }
  /// The same as it is held: nothing where the head is a view of a whole embedding.
  [[nodiscard]] constexpr double vc_column_held_bytes() const noexcept {
    return tied_embeddings && !embedding_on_host ? 0.0 : vc_column_bytes();
  }
  /// What every rank with a share holds whole: the embedding, and the norms in 16 bits.
  [[nodiscard]] constexpr double replicated_bytes() const noexcept {
    double const embedding = embedding_on_host ? 0.0 : as(vocab) * as(hidden) * embedding_bytes;
    return embedding + (2.0 * as(layers) + 1.0) * as(hidden) * 2.0;
  }

  friend constexpr bool operator==(model_shape const&, model_shape const&) = default;

 private:
  static constexpr double as(std::size_t n) noexcept { return static_cast<double>(n); }
  [[nodiscard]] constexpr double head_bytes(double matrices, double biases) const noexcept {
    return as(layers) * as(head_dim) * (matrices * as(hidden) + biases) * weight_bytes;
  }
};

/// What one rank brings. The default is a rank without limits, as fast as the others.
struct device_budget {
  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

  std::size_t memory = unlimited;  // bytes; 0 leaves the rank out: it gets empty ranges
  std::size_t reserve = 0;  // bytes of it that are not for the model: activations, other work
  double read_gbps = 1;     // how fast it reads its weights, GB/s; any unit where no link is given
  double link_gbps = 0;     // how fast it reaches its peers, GB/s; 0: not a limit
};

/// What a plan is made for, and the quanta that its ranges keep: a range begins at a multiple of
/// its kind's quantum, and ends at one or at the end of the axis. Kv's quantum is one head.
struct split_options {
  std::size_t tokens = 4096;    // of cache that is kept, all sequences together
  std::size_t step_tokens = 1;  // that one step runs; 1 is decode
  std::size_t id_quantum = 128;
  std::size_t vc_quantum = 32;
  std::size_t rs_quantum = 32;  // 128 for Hadamard-rotated weights
  std::size_t id_minimum = 1;   // quanta: a rank that would get fewer gets none
  std::size_t vc_minimum = 1;
  std::size_t rs_minimum = 1;
  std::size_t communicator_bytes = std::size_t{10} << 20;  // a rank

  friend constexpr bool operator==(split_options const&, split_options const&) = default;
};

namespace detail {

inline void refuse_split(std::string const& what, std::string const& remedy,
                         cuda::std::source_location where = cuda::std::source_location::current()) {
  throw error{errc::invalid_argument, what, {.operation = "split_plan", .remedy = remedy}, where};
}

inline void refuse_number(char const* field, double value, char const* remedy) {
  refuse_split(std::string{field} + " is " + std::to_string(value), remedy);
}

constexpr void check_size(char const* field, std::size_t value) {
  if (value == 0) {
    refuse_split(std::string{field} + " is 0", "give the model's own value, from its config");
  }
  if (value > std::size_t{1} << 32) {
    refuse_split(std::string{field} + " is " + std::to_string(value) + ", over 4294967296",
                 "check it: no model is that large");
  }
}

constexpr bool positive(double value) noexcept {
  return value > 0 && value < 1e12;
}

/// Refuses what no plan can be made for.
constexpr void check(model_shape const& shape, split_options const& options) {
  check_size("layers", shape.layers);
  check_size("hidden", shape.hidden);
  check_size("query_heads", shape.query_heads);
  check_size("kv_heads", shape.kv_heads);
  check_size("head_dim", shape.head_dim);
  check_size("intermediate", shape.intermediate);
  check_size("vocab", shape.vocab);
  check_size("step_tokens", options.step_tokens);
  check_size("id_quantum", options.id_quantum);
  check_size("vc_quantum", options.vc_quantum);
  check_size("rs_quantum", options.rs_quantum);
  if (shape.query_heads % shape.kv_heads != 0) {
    refuse_split("query_heads " + std::to_string(shape.query_heads) +
                   " is not a multiple of kv_heads " + std::to_string(shape.kv_heads),
                 "each key/value head serves the same number of query heads: check the config");
  }
  if (!positive(shape.weight_bytes) || !positive(shape.embedding_bytes) ||
      !positive(shape.cache_bytes)) {
    double const bad = !positive(shape.weight_bytes)      ? shape.weight_bytes
                       : !positive(shape.embedding_bytes) ? shape.embedding_bytes
                                                          : shape.cache_bytes;
    refuse_number("weight_bytes, embedding_bytes or cache_bytes", bad,
                  "give bytes an element, such as 2 for bf16");
  }
  double const total = static_cast<double>(shape.query_heads) * shape.q_head_bytes() +
                       static_cast<double>(shape.kv_heads) * shape.kv_head_bytes() +
                       static_cast<double>(options.tokens) * shape.cache_bytes_per_token() +
                       static_cast<double>(shape.intermediate) * shape.id_column_bytes() +
                       static_cast<double>(shape.vocab) * shape.vc_column_bytes() +
                       shape.replicated_bytes();
  if (total > 0x1p62) {
    refuse_number("the model's size with its cache, in bytes,", total,
                  "sizes over 2^62 bytes cannot be counted: check the shape and the tokens");
  }
}

}  // namespace detail
}  // namespace tpx
