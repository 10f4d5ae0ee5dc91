// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "rank_weights.hpp"

#include <tpx/communicator.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace llama {

struct model_options {
  std::size_t max_tokens = 512;  // a sequence has at most these, or what config.json allows
  progress loading = {};         // called by each rank's own thread
};

/// One rank of a Llama or Qwen2 that runs one sequence, split over the ranks of `Comm`.
///
/// All ranks make the same calls with the same tokens, and get the same bits. Memory is allocated
/// when it is made; calls allocate nothing. A token's bits do not depend on how the tokens before
/// it were cut into calls. After an error of a collective the model must be made anew; a call that
/// throws invalid_argument has changed nothing.
template <class Comm>
class model {
 public:
  /// Tokens that go through the layers together.
  static constexpr std::size_t chunk = 64;

  /// `comm` and `files` must outlive it. Errors: file_error, invalid_argument.
  model(Comm& comm, checkpoint const& files, tpx::split_plan const& plan,
        model_options const& options = {})
      : comm_{comm},
        plan_{checked(plan, comm.size())},
        weights_{files, plan, comm.rank(), options.loading},
        max_tokens_{std::min(options.max_tokens, files.config.max_position_embeddings)},
        turn_{files.config.rope.inverse_frequencies(files.config.head_dim), max_tokens_},
        pages_(cache::pages_needed(max_tokens_)),
        memory_{floats_needed()},
        logits_(files.config.vocab_size),
        parts_(chunk) {
    std::iota(pages_.begin(), pages_.end(), 0u);
    for (auto const& layer : weights_.layers) {
      auto const& heads = layer.attention.heads;
      caches_.emplace_back(pages_.size(), heads.kv.size(), heads.head_dim);
    }
  }

  model(model&&) = delete;

  /// Appends `tokens`, at least one, to the sequence; returns the logits of the token after the
  /// last, (vocab), which are this model's until the next call.
  std::span<float const> forward(std::span<std::int32_t const> tokens) {
    check(tokens);
    run(tokens, [&](std::size_t, std::span<float> x, bool last) {
      if (!last) { return; }
      tpx::workspace::frame frame{memory_};
      auto const end = last_normed(x);
      weights_.head.gather(comm_, plan_, end, frame.take(weights_.head.own.size()), logits_, 1);
    });
    return logits_;
  }

  /// The same, but returns the likeliest next token, the lowest of equal ones; the logits stay
  /// where they are made.
  std::int32_t greedy(std::span<std::int32_t const> tokens) {
    check(tokens);
    tpx::scored_token best{};
    run(tokens, [&](std::size_t, std::span<float> x, bool last) {
      if (!last) { return; }
      tpx::workspace::frame frame{memory_};
      auto const end = last_normed(x);
      weights_.head.greedy(comm_, end, frame.take(weights_.head.own.size()), {&best, 1});
    });
    if (best.token == tpx::scored_token::none) {
      throw tpx::error{tpx::errc::bad_file,
                       "no logit is a number",
                       {.rank = comm_.rank(), .remedy = "the weights are damaged"}};
    }
    return best.token;
  }

  /// Appends `tokens` and returns the sum of -log p, in nats, of all of them but the first.
  double score(std::span<std::int32_t const> tokens) {
    check(tokens);
    double total = 0;
    run(tokens, [&](std::size_t first, std::span<float> x, bool last) {
      std::size_t const hidden = weights_.norm.weight.size();
      std::size_t const rows = x.size() / hidden - (last ? 1 : 0);
      if (rows == 0) { return; }
      tpx::workspace::frame frame{memory_};
      auto const& head = weights_.head;
      auto const logits = frame.take(rows * head.own.size());
      weights_.norm(x, x, rows);
      head.project(x, logits, rows);
      std::span const parts{parts_.data(), rows};
      tpx::log_likelihood(comm_, logits, head.own, tokens.subspan(first + 1, rows), parts);
      for (auto const& part : parts) { total += part.negative_log(); }
    });
    return total;
  }

  /// Drops all tokens from position `length` on.
  void rewind(std::size_t length = 0) {
    tpx::expects(length <= length_, "rewind: the sequence is not that long");
    length_ = length;
  }

  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  [[nodiscard]] std::size_t max_tokens() const noexcept { return max_tokens_; }

  /// Of forward() and greedy() with one token: two a layer, and the logits'.
  [[nodiscard]] std::size_t collectives_per_token() const noexcept {
    return 2 * weights_.layers.size() + 1;
  }

 private:
  using cache = tpx::paged_cache<32, float>;

  static tpx::split_plan const& checked(tpx::split_plan const& plan, int ranks) {
    tpx::expects(plan.world() == ranks, "the split plan is for " + std::to_string(plan.world()) +
                                          " ranks, the communicator has " + std::to_string(ranks));
    return plan;
  }

  [[nodiscard]] std::size_t floats_needed() const {
    std::size_t const hidden = weights_.norm.weight.size();
    std::size_t most = chunk * weights_.head.own.size();
    for (auto const& layer : weights_.layers) {
      most = std::max(
        {most, layer.attention.floats_needed(chunk, max_tokens_), layer.mlp.floats_needed(chunk)});
    }
    return 2 * tpx::workspace::rounded(chunk * hidden) + tpx::workspace::rounded(most);
  }

  void check(std::span<std::int32_t const> tokens) const {
    if (tokens.empty()) {
      throw tpx::error{tpx::errc::invalid_argument,
                       "no token was given",
                       {.remedy = "begin with the beginning-of-text token or any other"}};
    }
    if (tokens.size() > max_tokens_ - length_) {
      throw tpx::error{
        tpx::errc::invalid_argument,
        std::to_string(tokens.size()) + " tokens more than the " + std::to_string(length_) +
          " that are there do not fit into " + std::to_string(max_tokens_),
        {.remedy = "rewind(), or a larger max_tokens up to the model's max_position_embeddings"}};
    }
    weights_.embedding.check(tokens);
  }

  /// Takes `tokens` through the layers, chunk by chunk, and hands each chunk's residual stream to
  /// done(index of its first token, (tokens, hidden), whether it is the last).
  template <class F>
  void run(std::span<std::int32_t const> tokens, F&& done) {
    std::size_t const hidden = weights_.norm.weight.size();
    tpx::workspace::frame frame{memory_};
    auto const residual = frame.take(chunk * hidden);
    auto const normed = frame.take(chunk * hidden);
    for (std::size_t first = 0; first < tokens.size(); first += chunk) {
      std::size_t const n = std::min(chunk, tokens.size() - first);
      auto const x = residual.first(n * hidden);
      tpx::sequence_view const at{pages_, length_, n};
      weights_.embedding(comm_, tokens.subspan(first, n), x);
      for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
        auto const& layer = weights_.layers[i];
        layer.attention_norm(x, normed, n);
        layer.attention.add_to(comm_, caches_[i], turn_, at, normed, x, memory_);
        layer.mlp_norm(x, normed, n);
        layer.mlp.add_to(comm_, normed, x, n, memory_);
      }
      length_ += n;
      done(first, x, first + n == tokens.size());
    }
  }

  /// The last token's hidden state after the final norm, in place.
  std::span<float> last_normed(std::span<float> x) const {
    auto const end = x.last(weights_.norm.weight.size());
    weights_.norm(end, end, 1);
    return end;
  }

  Comm& comm_;
  tpx::split_plan plan_;
  rank_weights weights_;
  std::size_t max_tokens_;
  tpx::rope turn_;
  std::vector<std::uint32_t> pages_;
  std::vector<cache> caches_;  // one a layer
  tpx::workspace memory_;
  std::vector<float> logits_;
  std::vector<tpx::softmax_part> parts_;
  std::size_t length_ = 0;
};

// Compiled once, in model.cpp.
extern template class model<tpx::communicator<tpx::HostPinned, tpx::Ring, tpx::Cpu>>;
extern template class model<tpx::communicator<tpx::HostPinned, tpx::Tree, tpx::Cpu>>;
extern template class model<tpx::communicator<tpx::HostPinned, tpx::AllPairs, tpx::Cpu>>;
extern template class model<tpx::communicator<tpx::PeerDirect, tpx::Ring, tpx::Cpu>>;
extern template class model<tpx::communicator<tpx::PeerDirect, tpx::Tree, tpx::Cpu>>;
extern template class model<tpx::communicator<tpx::PeerDirect, tpx::AllPairs, tpx::Cpu>>;
extern template class model<tpx::communicator<tpx::PeerDirect, tpx::Auto, tpx::Cpu>>;

}  // namespace llama
