// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "file_error.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

enum class architecture { Llama, Qwen2 };

/// Llama 3.1's stretching of long RoPE wavelengths (rope_type "llama3").
struct llama3_scaling {
  double factor;            // how many times longer
  double low_freq_factor;   // wavelengths over original / low are divided by factor
  double high_freq_factor;  // wavelengths under original / high stay; blended between
  double original_max_position_embeddings;
};

struct rope_config {
  double theta = 10000;
  std::optional<llama3_scaling> scaling = {};

  /// (head_dim / 2) radians a position, scaled: theta^(-2i / head_dim) for i = 0, 1, ...
  /// Source: transformers, modeling_rope_utils.py, _compute_llama3_parameters.
  [[nodiscard]] std::vector<double> inverse_frequencies(std::size_t head_dim) const;
};

/// config.json of LlamaForCausalLM or Qwen2ForCausalLM, checked; Hugging Face's names.
struct model_config {
  llama::architecture architecture;
  std::size_t hidden_size;
  std::size_t num_hidden_layers;
  std::size_t num_attention_heads;
  std::size_t num_key_value_heads;  // divides num_attention_heads
  std::size_t head_dim;             // even
  std::size_t intermediate_size;
  std::size_t vocab_size;
  std::size_t max_position_embeddings;
  double rms_norm_eps;
  rope_config rope;
  bool qkv_bias;  // q_proj, k_proj and v_proj have a bias
  bool o_bias;    // so has o_proj
  bool tie_word_embeddings;
  std::optional<std::int32_t> bos_token_id;
  std::vector<std::int32_t> eos_token_ids;  // any of them ends a text; may be empty
};

/// Reads the text of a config.json; `file` names it in errors.
///
/// Errors  missing_key, wrong_type, out_of_range; inconsistent (heads that do not divide);
///         not_supported (another architecture, activation, RoPE variant, sliding windows, biases
///         in the MLP, quantized weights). Unknown keys are let be.
[[nodiscard]] model_config parse_config(std::string_view text, std::string const& file);

/// The same of `folder`/config.json.
[[nodiscard]] model_config read_config(std::string const& folder);

}  // namespace llama
