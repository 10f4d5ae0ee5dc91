// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "checkpoint.hpp"

namespace llama {

checkpoint checkpoint::open(std::string const& folder) {
  return {.config = read_config(folder), .tensors = safetensors::open(folder)};
}

tpx::model_shape shape_of(model_config const& config) {
  return {.layers = config.num_hidden_layers,
          .hidden = config.hidden_size,
          .query_heads = config.num_attention_heads,
          .kv_heads = config.num_key_value_heads,
          .head_dim = config.head_dim,
          .intermediate = config.intermediate_size,
          .vocab = config.vocab_size,
          .weight_bytes = 2,
          .embedding_bytes = 2,
          .cache_bytes = 4,
          .tied_embeddings = config.tie_word_embeddings,
          .attention_bias = config.qkv_bias};
}

tpx::split_options plan_options(std::size_t tokens) {
  return {.tokens = tokens, .id_quantum = 32, .vc_quantum = 32};
}

}  // namespace llama
