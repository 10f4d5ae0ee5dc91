// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "rank_weights.hpp"

#include <algorithm>

namespace llama {
namespace {

using tpx::bfloat16;
using tpx::shard_range;

/// A number of a checkpoint, rounded to bf16 or widened.
template <class T>
T convert(tensor_view const& from, std::size_t i) {
  switch (from.type) {
    case dtype::BF16:
      return static_cast<T>(static_cast<float>(from.as<bfloat16>()[i]));
    case dtype::F16:
      return static_cast<T>(static_cast<float>(from.as<tpx::float16>()[i]));
    default:
      return static_cast<T>(from.as<float>()[i]);
  }
}

/// Reads a byte of each page, so that the first token does not wait for the disk.
void touch(tpx::weight_view const& w) {
  auto const* const bytes = reinterpret_cast<unsigned char const*>(w.data);
  constexpr std::size_t page = 4096;
  unsigned char volatile sink = 0;
  for (std::size_t i = 0; i < w.rows * w.cols * sizeof(bfloat16); i += page) { sink = bytes[i]; }
  static_cast<void>(sink);
}

}  // namespace

class rank_weights::loader {
 public:
  loader(rank_weights& to, safetensors const& from, std::size_t tensors, progress const& report)
      : to_{to}, from_{from}, tensors_{tensors}, report_{report} {}

  /// Rows `part` of a matrix of `rows` x `cols`.
  tpx::weight_view rows(std::string const& name, std::size_t rows, std::size_t cols,
                        shard_range part) {
    auto const& tensor = get(name, {rows, cols});
    tpx::weight_view view;
    if (tensor.type == dtype::BF16) {
      view = {tensor.as<bfloat16>().data() + part.begin * cols, part.size(), cols};
      touch(view);
    } else {
      view = copy(tensor, cols, {part.begin, part.end}, {0, cols});
    }
    done();
    return view;
  }

  /// Columns `part` of a matrix of `rows` x `cols`.
  tpx::weight_view columns(std::string const& name, std::size_t rows, std::size_t cols,
                           shard_range part) {
    auto const view = copy(get(name, {rows, cols}), cols, {0, rows}, part);
    done();
    return view;
  }

  /// A whole matrix that is not read ahead.
  tpx::weight_view whole(std::string const& name, std::size_t rows, std::size_t cols) {
    auto const& tensor = get(name, {rows, cols});
    if (tensor.type != dtype::BF16) { return copy(tensor, cols, {0, rows}, {0, cols}); }
    return {tensor.as<bfloat16>().data(), rows, cols};
  }

  /// Elements `part` of a vector of `size`, as fp32.
  std::span<float const> vector(std::string const& name, std::size_t size, shard_range part) {
    auto const& tensor = get(name, {size});
    auto& made = to_.vectors_.emplace_back(part.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
      made[i] = convert<float>(tensor, part.begin + i);
    }
    return made;
  }

 private:
  tensor_view const& get(std::string const& name, std::initializer_list<std::size_t> shape) const {
    return from_.get(name, {dtype::BF16, dtype::F16, dtype::F32}, shape);
  }

  tpx::weight_view copy(tensor_view const& tensor, std::size_t cols, shard_range rows,
                        shard_range part) {
    auto& made = to_.matrices_.emplace_back(rows.size() * part.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      std::size_t const from = (rows.begin + r) * cols + part.begin;
      bfloat16* const to = made.data() + r * part.size();
      if (tensor.type == dtype::BF16) {
        std::copy_n(tensor.as<bfloat16>().data() + from, part.size(), to);
      } else {
        for (std::size_t c = 0; c < part.size(); ++c) {
          to[c] = convert<bfloat16>(tensor, from + c);
        }
      }
    }
    return {made.data(), rows.size(), part.size()};
  }

  void done() {
    ++done_;
    if (report_) { report_(static_cast<double>(done_) / static_cast<double>(tensors_)); }
  }

  rank_weights& to_;
  safetensors const& from_;
  std::size_t tensors_;
  std::size_t done_ = 0;
  progress const& report_;
};

rank_weights::rank_weights(checkpoint const& files, tpx::split_plan const& plan, int rank,
                           progress const& report) {
  namespace split = tpx::split;
  auto const& config = files.config;
  auto const& shape = plan.shape();
  tpx::expects(shape.layers == config.num_hidden_layers && shape.hidden == config.hidden_size &&
                 shape.query_heads == config.num_attention_heads &&
                 shape.kv_heads == config.num_key_value_heads &&
                 shape.head_dim == config.head_dim &&
                 shape.intermediate == config.intermediate_size && shape.vocab == config.vocab_size,
               "the split plan was made for another model than this checkpoint",
               "make it from llama::shape_of(checkpoint.config)");

  std::size_t const hidden = config.hidden_size;
  std::size_t const dim = config.head_dim;
  std::size_t const q_size = config.num_attention_heads * dim;
  std::size_t const kv_size = config.num_key_value_heads * dim;
  auto const epsilon = static_cast<float>(config.rms_norm_eps);
  shard_range const all{0, hidden};
  tpx::head_range const heads{.query = plan.range<split::Q>(rank),
                              .kv = plan.range<split::Kv>(rank),
                              .group = shape.group(),
                              .head_dim = dim};
  auto const q = heads.query.columns(dim);
  auto const kv = heads.kv.columns(dim);
  auto const id = plan.range<split::Id>(rank);
  auto const vc = plan.range<split::Vc>(rank);

  loader from{*this, files.tensors, config.num_hidden_layers * 7 + 1, report};
  for (std::size_t i = 0; i < config.num_hidden_layers; ++i) {
    std::string const prefix = "model.layers." + std::to_string(i) + '.';
    auto const bias = [&](char const* name, bool present, std::size_t size, shard_range part) {
      return present ? from.vector(prefix + name, size, part) : std::span<float const>{};
    };
    layer one;
    one.attention_norm = {from.vector(prefix + "input_layernorm.weight", hidden, all), epsilon};
    one.attention = {.heads = heads,
                     .q = {from.rows(prefix + "self_attn.q_proj.weight", q_size, hidden, q),
                           bias("self_attn.q_proj.bias", config.qkv_bias, q_size, q)},
                     .k = {from.rows(prefix + "self_attn.k_proj.weight", kv_size, hidden, kv),
                           bias("self_attn.k_proj.bias", config.qkv_bias, kv_size, kv)},
                     .v = {from.rows(prefix + "self_attn.v_proj.weight", kv_size, hidden, kv),
                           bias("self_attn.v_proj.bias", config.qkv_bias, kv_size, kv)},
                     .o = {from.columns(prefix + "self_attn.o_proj.weight", hidden, q_size, q),
                           bias("self_attn.o_proj.bias", config.o_bias, hidden, all)}};
    one.mlp_norm = {from.vector(prefix + "post_attention_layernorm.weight", hidden, all), epsilon};
    one.mlp = {
      .gate = {from.rows(prefix + "mlp.gate_proj.weight", config.intermediate_size, hidden, id)},
      .up = {from.rows(prefix + "mlp.up_proj.weight", config.intermediate_size, hidden, id)},
      .down = {
        from.columns(prefix + "mlp.down_proj.weight", hidden, config.intermediate_size, id)}};
    layers.push_back(one);
  }
  norm = {from.vector("model.norm.weight", hidden, all), epsilon};
  std::size_t const vocab = config.vocab_size;
  embedding = {from.whole("model.embed_tokens.weight", vocab, hidden), {0, vocab}, vocab};
  bool const tied = config.tie_word_embeddings;
  head = {{from.rows(tied ? "model.embed_tokens.weight" : "lm_head.weight", vocab, hidden, vc)},
          vc};
}

}  // namespace llama
