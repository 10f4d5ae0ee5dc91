// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The input is a config.json.
#include "fuzz.hpp"
#include "llama/config.hpp"

#include <cmath>

namespace {

using fuzz::must;

void check(llama::model_config const& c) {
  must(c.num_attention_heads % c.num_key_value_heads == 0, "heads share key/value heads evenly");
  must(c.head_dim > 0 && c.head_dim % 2 == 0, "a head has pairs");
  must(c.hidden_size > 0 && c.intermediate_size > 0 && c.num_hidden_layers > 0, "sizes are not 0");
  // What a loader multiplies must not wrap.
  std::size_t product = c.num_attention_heads;
  must(!__builtin_mul_overflow(product, c.head_dim, &product) &&
         !__builtin_mul_overflow(product, c.hidden_size, &product) &&
         !__builtin_mul_overflow(product, std::size_t{8}, &product),
       "a projection's size fits");
  for (auto const id : c.eos_token_ids) {
    must(id >= 0 && static_cast<std::size_t>(id) < c.vocab_size, "eos is a token");
  }
  must(c.rms_norm_eps >= 0 && c.rms_norm_eps <= 1, "epsilon is small");
  auto const frequencies = c.rope.inverse_frequencies(c.head_dim);
  must(frequencies.size() == c.head_dim / 2, "one frequency a pair");
  for (auto const f : frequencies) { must(f > 0 && f <= 1, "frequencies are from 0 to 1"); }
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  return {
    R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":256,"num_hidden_layers":3,)"
    R"("num_attention_heads":16,"num_key_value_heads":8,"head_dim":64,"intermediate_size":512,)"
    R"("vocab_size":2048,"max_position_embeddings":512,"rms_norm_eps":1e-05,"rope_theta":10000.0,)"
    R"("rope_scaling":null,"tie_word_embeddings":true,"attention_bias":false,"mlp_bias":false,)"
    R"("bos_token_id":0,"eos_token_id":[0,1],"hidden_act":"silu"})",
    R"({"architectures":["Qwen2ForCausalLM"],"hidden_size":64,"num_hidden_layers":2,)"
    R"("num_attention_heads":4,"intermediate_size":96,"vocab_size":100,)"
    R"("max_position_embeddings":32768,"use_sliding_window":false,"layer_types":["full_attention"],)"
    R"("rope_parameters":{"rope_theta":1e6,"rope_type":"default"}})",
    R"({"model_type":"llama","hidden_size":2048,"num_hidden_layers":16,"num_attention_heads":32,)"
    R"("num_key_value_heads":8,"intermediate_size":8192,"vocab_size":128256,)"
    R"("max_position_embeddings":131072,"rope_theta":500000,"rope_scaling":{"factor":32.0,)"
    R"("high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192,)"
    R"("rope_type":"llama3"}})",
  };
}

std::vector<std::string> fuzz::words() {
  return {"\"rope_scaling\":",
          "\"rope_type\":",
          "\"llama3\"",
          "\"yarn\"",
          "\"factor\":",
          "\"head_dim\":",
          "\"bos_token_id\":",
          "\"eos_token_id\":",
          "null",
          "true",
          "\"layer_types\":",
          "[]",
          "{}",
          "[[[[[[[[",
          "{\"a\":{\"a\":",
          "1e-400",
          "1e999",
          "-0",
          "-0.0",
          "\\u0000",
          "\xff",
          ",",
          ":",
          "[0,1]",
          "\"architectures\":"};
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  try {
    check(llama::parse_config({reinterpret_cast<char const*>(data), size}, "config.json"));
  } catch (tpx::error const&) {}
  return 0;
}
