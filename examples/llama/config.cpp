// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "config.hpp"

#include "mapped_file.hpp"
#include "strict_json.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

namespace llama {
namespace {

using json = nlohmann::json;

constexpr std::int64_t most_tokens = 1 << 24;
constexpr std::int64_t largest_width = 1 << 24;
constexpr std::int64_t most_heads = 1 << 16;
constexpr std::int64_t most_layers = 10'000;
constexpr std::int64_t longest_context = 1 << 30;

[[noreturn]] void not_supported(json_object const& keys, std::string_view key,
                                std::string const& value, std::string const& supported) {
  throw file_error{file_fault::not_supported, keys.file(),
                   keys.path(key) + " is " + value + "; only " + supported + " is read"};
}

/// Refuses `key` unless it is absent, null or `wanted`.
void only_flag(json_object const& keys, std::string_view key, bool wanted) {
  if (keys.boolean(key).value_or(wanted) != wanted) {
    not_supported(keys, key, wanted ? "false" : "true", wanted ? "true" : "false");
  }
}

void only_word(json_object const& keys, std::string_view key, std::string_view wanted) {
  auto const word = keys.string(key).value_or(wanted);
  if (word != wanted) { not_supported(keys, key, in_quotes(word), in_quotes(wanted)); }
}

std::size_t required(json_object const& keys, std::string_view key, std::int64_t most) {
  keys.require(key);
  return static_cast<std::size_t>(*keys.integer(key, 1, most));
}

architecture read_architecture(json_object const& keys) {
  auto const of_word = [&](std::string_view word) -> std::optional<architecture> {
    if (word == "LlamaForCausalLM" || word == "llama") { return architecture::Llama; }
    if (word == "Qwen2ForCausalLM" || word == "qwen2") { return architecture::Qwen2; }
    return {};
  };
  auto const* const list = keys.find("architectures");
  if (list == nullptr) {  // a folder written without its model class has only the model's type
    keys.require("model_type");
    auto const word = *keys.string("model_type");
    if (auto const known = of_word(word)) { return *known; }
    not_supported(keys, "model_type", in_quotes(word), "'llama' or 'qwen2'");
  }
  if (!list->is_array() || list->size() != 1 || !list->front().is_string()) {
    throw file_error{file_fault::wrong_type, keys.file(),
                     "architectures is not an array of one string"};
  }
  auto const& word = list->front().get_ref<std::string const&>();
  if (word == "LlamaForCausalLM" || word == "Qwen2ForCausalLM") { return *of_word(word); }
  not_supported(keys, "architectures", in_quotes(word), "LlamaForCausalLM or Qwen2ForCausalLM");
}

double required_number(json_object const& keys, std::string_view key, double least, double most) {
  keys.require(key);
  return *keys.number(key, least, most);
}

/// What `scaling`, an object named "rope_scaling" or "rope_parameters", asks for.
std::optional<llama3_scaling> read_scaling(json_object const& scaling) {
  // "type" is the key of files from before Llama 3.1.
  auto const type =
    scaling.string("rope_type").value_or(scaling.string("type").value_or("default"));
  if (type == "default") { return {}; }
  if (type != "llama3") { not_supported(scaling, "rope_type", in_quotes(type), "'llama3'"); }
  llama3_scaling const read{
    .factor = required_number(scaling, "factor", 1, 1e6),
    .low_freq_factor = required_number(scaling, "low_freq_factor", 1e-6, 1e6),
    .high_freq_factor = required_number(scaling, "high_freq_factor", 1e-6, 1e6),
    .original_max_position_embeddings =
      required_number(scaling, "original_max_position_embeddings", 1, longest_context)};
  if (!(read.low_freq_factor < read.high_freq_factor)) {
    throw file_error{file_fault::inconsistent, scaling.file(),
                     scaling.path("low_freq_factor") + " is not below high_freq_factor"};
  }
  return read;
}

rope_config read_rope(json_object const& keys) {
  constexpr double least_theta = 1;
  constexpr double most_theta = 1e12;
  rope_config rope;
  rope.theta = keys.number("rope_theta", least_theta, most_theta).value_or(rope.theta);
  for (auto const* const key : {"rope_scaling", "rope_parameters"}) {  // before and since v5
    if (auto const* const value = keys.find(key)) {
      json_object const object{*value, keys.file(), key};
      rope.theta = object.number("rope_theta", least_theta, most_theta).value_or(rope.theta);
      if (object.number("partial_rotary_factor", 0, 1).value_or(1) != 1) {
        not_supported(object, "partial_rotary_factor", "below 1", "1");
      }
      if (auto const scaling = read_scaling(object)) { rope.scaling = scaling; }
    }
  }
  if (keys.number("partial_rotary_factor", 0, 1).value_or(1) != 1) {
    not_supported(keys, "partial_rotary_factor", "below 1", "1");
  }
  return rope;
}

std::int32_t token_id(json const& value, std::string_view key, std::size_t vocab,
                      std::string const& file) {
  if (!value.is_number_integer()) {
    throw file_error{file_fault::wrong_type, file,
                     std::string{key} + " is neither a whole number nor an array of them"};
  }
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= vocab) {
    throw file_error{file_fault::out_of_range, file,
                     std::string{key} + " holds " + value.dump() +
                       ", not a token below vocab_size " + std::to_string(vocab)};
  }
  return value.get<std::int32_t>();
}

std::vector<std::int32_t> token_ids(json_object const& keys, std::string_view key,
                                    std::size_t vocab) {
  std::vector<std::int32_t> ids;
  if (auto const* const value = keys.find(key)) {
    if (value->is_array()) {
      for (auto const& id : *value) { ids.push_back(token_id(id, key, vocab, keys.file())); }
    } else {
      ids.push_back(token_id(*value, key, vocab, keys.file()));
    }
  }
  return ids;
}

void refuse_what_changes_the_maths(json_object const& keys) {
  only_word(keys, "hidden_act", "silu");
  only_flag(keys, "mlp_bias", false);
  only_flag(keys, "use_sliding_window", false);
  if (keys.find("quantization_config") != nullptr) {
    not_supported(keys, "quantization_config", "there", "a model of plain weights");
  }
  if (auto const* const layers = keys.find("layer_types")) {
    for (auto const& layer : *layers) {
      if (layer != "full_attention") {
        not_supported(keys, "layer_types", "a list with other layers", "'full_attention'");
      }
    }
  }
}

}  // namespace

std::vector<double> rope_config::inverse_frequencies(std::size_t head_dim) const {
  std::vector<double> frequencies;
  for (std::size_t i = 0; i < head_dim / 2; ++i) {
    auto const share = static_cast<double>(2 * i) / static_cast<double>(head_dim);
    double frequency = std::pow(theta, -share);
    if (scaling) {
      auto const& s = *scaling;
      double const turns =  // over the length the model was first trained for
        s.original_max_position_embeddings * frequency / (2 * std::numbers::pi);
      if (turns < s.low_freq_factor) {
        frequency /= s.factor;
      } else if (turns <= s.high_freq_factor) {
        double const keep = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
        frequency *= keep + (1 - keep) / s.factor;
      }
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

model_config parse_config(std::string_view text, std::string const& file) {
  auto const tree = parse_json(text, file, {.bytes = 4 << 20, .values = 100'000});
  json_object const keys{tree, file};
  model_config c{};
  c.architecture = read_architecture(keys);
  refuse_what_changes_the_maths(keys);
  c.hidden_size = required(keys, "hidden_size", largest_width);
  c.num_hidden_layers = required(keys, "num_hidden_layers", most_layers);
  c.num_attention_heads = required(keys, "num_attention_heads", most_heads);
  c.intermediate_size = required(keys, "intermediate_size", largest_width);
  c.vocab_size = required(keys, "vocab_size", most_tokens);
  c.max_position_embeddings = required(keys, "max_position_embeddings", longest_context);
  c.num_key_value_heads =
    static_cast<std::size_t>(keys.integer("num_key_value_heads", 1, most_heads)
                               .value_or(static_cast<std::int64_t>(c.num_attention_heads)));
  auto const inconsistent = [&](std::string const& message) {
    throw file_error{file_fault::inconsistent, file, message};
  };
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    inconsistent("num_attention_heads " + std::to_string(c.num_attention_heads) +
                 " is not a multiple of num_key_value_heads " +
                 std::to_string(c.num_key_value_heads));
  }
  if (auto const head_dim = keys.integer("head_dim", 1, 1 << 16)) {
    c.head_dim = static_cast<std::size_t>(*head_dim);
  } else if (c.hidden_size % c.num_attention_heads == 0) {
    c.head_dim = c.hidden_size / c.num_attention_heads;
  } else {
    inconsistent("hidden_size " + std::to_string(c.hidden_size) +
                 " is not a multiple of num_attention_heads " +
                 std::to_string(c.num_attention_heads) + ", and head_dim is not there");
  }
  if (c.head_dim % 2 != 0) {
    inconsistent("head_dim " + std::to_string(c.head_dim) + " is odd; RoPE turns pairs");
  }
  // Hugging Face's defaults for both architectures.
  c.rms_norm_eps = keys.number("rms_norm_eps", 0, 1).value_or(1e-6);
  c.tie_word_embeddings = keys.boolean("tie_word_embeddings").value_or(false);
  c.rope = read_rope(keys);
  bool const bias = keys.boolean("attention_bias").value_or(false);
  c.qkv_bias = bias || c.architecture == architecture::Qwen2;
  c.o_bias = bias && c.architecture == architecture::Llama;
  auto const bos = token_ids(keys, "bos_token_id", c.vocab_size);
  if (bos.size() > 1) { inconsistent("bos_token_id is an array; a text begins with one token"); }
  if (!bos.empty()) { c.bos_token_id = bos.front(); }
  c.eos_token_ids = token_ids(keys, "eos_token_id", c.vocab_size);
  return c;
}

model_config read_config(std::string const& folder) {
  mapped_file const file{folder + "/config.json"};
  return parse_config(file.text(), file.path());
}

}  // namespace llama
