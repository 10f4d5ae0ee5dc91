// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "rank_weights.hpp"

#include <tpx/allreduce.hpp>
#include <tpx/communicator.hpp>
#include <tpx/generator/model.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace llama {

struct model_options {
  std::size_t max_tokens = 512;  // a sequence has at most these, or what config.json allows
  std::size_t pages = 0;         // that all sequences share; 0: for one sequence of max_tokens
  std::size_t host_pages = 0;    // more, which hold what store() puts there
  progress loading = {};         // called by each rank's own thread
};

/// One rank of a Llama or Qwen2 that runs many sequences at once, split over the ranks of `Comm`.
///
/// All ranks make the same calls with the same parts, and get the same bits; a call is refused,
/// with invalid_argument, before anything is changed. After an error of a collective the model must
/// be made anew.
///
/// A token's bits do not depend on what else is in the step, on how the tokens before it were cut
/// into steps, or on which pages they lie in and how large those are. (With AllPairs and Auto, that
/// is, which add in rank order; Ring and Tree add in an order that depends on the place in the
/// message.) Memory is allocated when it is made, save that of logits, which grows to the most rows
/// that a step asked for.
template <class Comm, std::size_t PageSize = 32>
class model {
 public:
  static constexpr std::size_t page_size = PageSize;

  /// Tokens that go through the layers together; a longer step goes in several of these.
  static constexpr std::size_t chunk = 64;

  /// `comm` and `files` must outlive it. Errors: file_error, invalid_argument.
  model(Comm& comm, checkpoint const& files, tpx::split_plan const& plan,
        model_options const& options = {})
      : comm_{comm},
        plan_{checked(plan, comm.size())},
        weights_{files, plan, comm.rank(), options.loading},
        max_tokens_{std::min(options.max_tokens, files.config.max_position_embeddings)},
        turn_{files.config.rope.inverse_frequencies(files.config.head_dim), max_tokens_},
        memory_{floats_needed()},
        vocab_{files.config.vocab_size},
        logits_(vocab_),
        joined_(chunk),
        tokens_(chunk),
        wanted_(chunk) {
    views_.reserve(chunk);
    auto const pages = options.pages == 0 ? cache::pages_needed(max_tokens_) : options.pages;
    for (auto const& layer : weights_.layers) {
      auto const& heads = layer.attention.heads;
      caches_.emplace_back(pages, heads.kv.size(), heads.head_dim);
      tier_.emplace_back(options.host_pages, heads.kv.size(), heads.head_dim);
    }
  }

  model(model&&) = delete;

  /// As generator_model says.
  std::span<float> forward(std::span<tpx::step_part const> parts) {
    std::size_t const wanted = check(parts);
    if (logits_.size() < wanted * vocab_) { logits_.resize(wanted * vocab_); }
    run(parts, [&](std::size_t row, std::span<float const> x, std::size_t rows,
                   std::span<float> work) {
      weights_.head.gather(comm_, plan_, x, work, std::span{logits_}.subspan(row * vocab_), rows);
    });
    return std::span{logits_}.first(wanted * vocab_);
  }

  /// The same, but each rank gets the logits of its own part of the vocabulary, from own().begin
  /// on: (rows, own().size()). Nothing is gathered.
  std::span<float> forward_own(std::span<tpx::step_part const> parts) {
    std::size_t const wanted = check(parts);
    std::size_t const columns = own().size();
    if (logits_.size() < wanted * columns) { logits_.resize(wanted * columns); }
    run(parts, [&](std::size_t row, std::span<float const> x, std::size_t rows, std::span<float>) {
      weights_.head.project(x, std::span{logits_}.subspan(row * columns, rows * columns), rows);
    });
    return own_logits_ = std::span{logits_}.first(wanted * columns);
  }

  /// What the last forward_own() returned, which the caller may have changed.
  [[nodiscard]] std::span<float> own_logits() const noexcept { return own_logits_; }

  /// Joins what all ranks have of each value, for a sampler of which every rank has a part.
  void max(std::span<std::uint64_t> values) { tpx::allreduce(comm_, values, tpx::Max{}); }
  void sum(std::span<std::uint64_t> values) { tpx::allreduce(comm_, values, tpx::Sum{}); }

  /// The same, but gives the likeliest token of each wanted row, the lowest of equal ones; the
  /// logits stay where they are made. best: (rows).
  void greedy(std::span<tpx::step_part const> parts, std::span<tpx::scored_token> best) {
    tpx::expects(best.size() == check(parts), "greedy: one token is found for each wanted row");
    run(parts,
        [&](std::size_t row, std::span<float const> x, std::size_t rows, std::span<float> work) {
          weights_.head.greedy(comm_, x, work, best.subspan(row, rows));
        });
  }

  /// The same, but returns the sum over the wanted rows of -log p, in nats, of `next`: (rows).
  double score(std::span<tpx::step_part const> parts, std::span<std::int32_t const> next) {
    tpx::expects(next.size() == check(parts), "score: each wanted row has one next token");
    double total = 0;
    run(parts,
        [&](std::size_t row, std::span<float const> x, std::size_t rows, std::span<float> work) {
          auto const& head = weights_.head;
          auto const joined = std::span{joined_}.first(rows);
          head.project(x, work, rows);
          tpx::log_likelihood(comm_, work, head.own, next.subspan(row, rows), joined);
          for (auto const& part : joined) { total += part.negative_log(); }
        });
    return total;
  }

  /// Page copies and the host tier, as generator_model and tiered_model say; nothing is sent.
  void copy(std::span<tpx::page_copy const> copies) {
    for (auto const& c : copies) {
      caches_.front().check_copy(c.from, caches_.front(), c.to, c.tokens);
    }
    for (auto const& c : copies) {
      for (auto& layer : caches_) { layer.copy(c.from, layer, c.to, c.tokens); }
    }
  }
  void store(tpx::page_id page, std::uint32_t host, std::size_t tokens) {
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      caches_[i].copy(page, tier_[i], host, tokens);
    }
  }
  void fetch(std::uint32_t host, tpx::page_id page, std::size_t tokens) {
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      tier_[i].copy(host, caches_[i], page, tokens);
    }
  }

  /// Throws what a step of these parts would throw before it begins; returns the wanted rows.
  std::size_t check(std::span<tpx::step_part const> parts) const {
    std::size_t rows = 0;
    for (auto const& part : parts) {
      std::size_t const n = part.tokens.size();
      tpx::expects(n > 0, "no token was given",
                   "begin with the beginning-of-text token or any other");
      tpx::expects(
        part.start <= max_tokens_ && n <= max_tokens_ - part.start,
        [&] {
          return std::to_string(n) + " tokens more than the " + std::to_string(part.start) +
                 " that are there do not fit into " + std::to_string(max_tokens_);
        },
        "end the sequence sooner, or a larger max_tokens up to max_position_embeddings");
      tpx::expects(part.rows <= n, [&] {
        return "logits of " + std::to_string(part.rows) + " tokens are wanted where " +
               std::to_string(n) + " were given";
      });
      weights_.embedding.check(part.tokens);
      caches_.front().check_table(part.pages, part.start + n);
      rows += part.rows;
    }
    return rows;
  }

  [[nodiscard]] std::size_t vocab_size() const noexcept { return vocab_; }
  [[nodiscard]] tpx::shard_range own() const noexcept { return weights_.head.own; }
  [[nodiscard]] std::size_t pages() const noexcept { return caches_.front().pages(); }
  [[nodiscard]] std::size_t host_pages() const noexcept { return tier_.front().pages(); }
  [[nodiscard]] std::size_t max_tokens() const noexcept { return max_tokens_; }

 private:
  using cache = tpx::paged_cache<PageSize, float>;

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

  /// Takes the parts' tokens through the layers, chunk by chunk, and hands each chunk's wanted rows
  /// to done(first of these rows, (rows, hidden) after the final norm, rows, workspace (rows,
  /// own)).
  template <class F>
  void run(std::span<tpx::step_part const> parts, F&& done) {
    std::size_t const hidden = weights_.norm.weight.size();
    tpx::workspace::frame frame{memory_};
    auto const residual = frame.take(chunk * hidden);
    auto const normed = frame.take(chunk * hidden);
    std::size_t row = 0;
    for (std::size_t used = 0; !parts.empty();) {
      std::size_t const n = take_chunk(parts, used);
      through_layers(residual.first(n * hidden), normed, n);
      std::size_t rows = 0;
      std::size_t end = 0;
      for (std::size_t i = 0; i < views_.size(); ++i) {
        end += views_[i].tokens;
        weights_.norm(residual.subspan((end - wanted_[i]) * hidden), normed.subspan(rows * hidden),
                      wanted_[i]);
        rows += wanted_[i];
      }
      if (rows == 0) { continue; }
      tpx::workspace::frame inner{memory_};
      done(row, normed.first(rows * hidden), rows, inner.take(rows * weights_.head.own.size()));
      row += rows;
    }
  }

  /// Moves up to `chunk` tokens from the front of `parts`, of whose first `used` are gone, to
  /// tokens_, views_ and wanted_. How many.
  std::size_t take_chunk(std::span<tpx::step_part const>& parts, std::size_t& used) {
    std::size_t n = 0;
    views_.clear();
    while (n < chunk && !parts.empty()) {
      auto const& part = parts.front();
      std::size_t const all = part.tokens.size();
      std::size_t const some = std::min(chunk - n, all - used);
      std::copy_n(part.tokens.data() + used, some, tokens_.data() + n);
      views_.push_back({part.pages, part.start + used, some});
      n += some;
      used += some;
      wanted_[views_.size() - 1] = std::min(some, part.rows - std::min(part.rows, all - used));
      if (used == all) {
        parts = parts.subspan(1);
        used = 0;
      }
    }
    return n;
  }

  void through_layers(std::span<float> x, std::span<float> normed, std::size_t n) {
    weights_.embedding(comm_, std::span{tokens_}.first(n), x);
    for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
      auto const& layer = weights_.layers[i];
      layer.attention_norm(x, normed, n);
      layer.attention.add_to(comm_, caches_[i], turn_, views_, normed, x, memory_);
      layer.mlp_norm(x, normed, n);
      layer.mlp.add_to(comm_, normed, x, n, memory_);
    }
  }

  Comm& comm_;
  tpx::split_plan plan_;
  rank_weights weights_;
  std::size_t max_tokens_;
  tpx::rope turn_;
  std::vector<cache> caches_;  // one a layer
  std::vector<cache> tier_;    // of the same layers' pages in host memory
  tpx::workspace memory_;
  std::size_t vocab_;
  std::vector<float> logits_;
  std::span<float> own_logits_;
  std::vector<tpx::softmax_part> joined_;
  std::vector<std::int32_t> tokens_;       // of a chunk
  std::vector<tpx::sequence_view> views_;  // where they stand
  std::vector<std::size_t> wanted_;        // of each view's last tokens, the logits
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
