// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/allreduce.hpp>
#include <tpx/layer/weight.hpp>
#include <tpx/split.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

namespace tpx {

/// A token and its logit; token `none` where no logit is a number.
struct scored_token {
  static constexpr std::int32_t none = std::numeric_limits<std::int32_t>::max();
  float logit;
  std::int32_t token;
};

/// The larger logit; of equal ones the lower token.
struct likelier {
  TPX_HD constexpr scored_token operator()(scored_token a, scored_token b) const {
    bool const first = a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
    return first ? a : b;
  }
};
static_assert(reduction<likelier, scored_token>);

/// The best token of each row of logits that are cut over the ranks; every rank gets the same.
///
/// Shapes  logits: (rows, own.size()), this rank's; best: (rows).
/// Order   a tie goes to the lowest token, also between ranks; NaN is never best.
/// Cost    one allreduce of 8 bytes a row, instead of a gather of the vocabulary.
template <class Comm>
void argmax(Comm& comm, std::span<float const> logits, shard_range own,
            std::span<scored_token> best) {
  detail::expect_shape("argmax: logits", logits.size(), best.size(), own.size());
  for (std::size_t row = 0; row < best.size(); ++row) {
    float const* const mine = logits.data() + row * own.size();
    scored_token top{-std::numeric_limits<float>::infinity(), scored_token::none};
    for (std::size_t i = 0; i < own.size(); ++i) {
      // The first of equal ones stays; -infinity too beats having none.
      if (mine[i] > top.logit || (top.token == scored_token::none && mine[i] == top.logit)) {
        top = {mine[i], static_cast<std::int32_t>(own.begin + i)};
      }
    }
    best[row] = top;
  }
  allreduce(comm, best, likelier{});
}

/// Part of a softmax over some of the logits, and the wanted token's logit where it is among them.
struct softmax_part {
  float most;    // largest logit; -infinity where there are none
  float sum;     // of e^(logit - most)
  float wanted;  // logit, 0 where another rank has it

  /// -log of the probability of the wanted token, once all parts are joined.
  [[nodiscard]] double negative_log() const {
    return std::log(static_cast<double>(sum)) + static_cast<double>(most) -
           static_cast<double>(wanted);
  }
};

/// Joins two parts. Source: Milakov and Gimelshein, Online normalizer calculation for softmax
/// (2018, arXiv:1805.02867).
struct join_softmax {
  TPX_HD softmax_part operator()(softmax_part a, softmax_part b) const {
    if (a.sum == 0) { return {b.most, b.sum, a.wanted + b.wanted}; }
    if (b.sum == 0) { return {a.most, a.sum, a.wanted + b.wanted}; }
    float const most = a.most > b.most ? a.most : b.most;
    return {most, a.sum * std::exp(a.most - most) + b.sum * std::exp(b.most - most),
            a.wanted + b.wanted};
  }
};
static_assert(reduction<join_softmax, softmax_part>);

/// How likely each row of logits, cut over the ranks, makes a wanted token: parts[row] is joined
/// over all ranks.
///
/// Shapes  logits: (rows, own.size()), this rank's; wanted, parts: (rows).
/// Cost    one allreduce of 12 bytes a row.
template <class Comm>
void log_likelihood(Comm& comm, std::span<float const> logits, shard_range own,
                    std::span<std::int32_t const> wanted, std::span<softmax_part> parts) {
  detail::expect_shape("log_likelihood: logits", logits.size(), parts.size(), own.size());
  detail::expect_shape("log_likelihood: wanted", wanted.size(), 1, parts.size());
  for (std::size_t row = 0; row < parts.size(); ++row) {
    float const* const mine = logits.data() + row * own.size();
    softmax_part part{-std::numeric_limits<float>::infinity(), 0, 0};
    for (std::size_t i = 0; i < own.size(); ++i) {
      part.most = mine[i] > part.most ? mine[i] : part.most;
    }
    double sum = 0;
    for (std::size_t i = 0; i < own.size(); ++i) {
      sum += static_cast<double>(std::exp(mine[i] - part.most));
    }
    part.sum = static_cast<float>(sum);
    auto const token = static_cast<std::size_t>(wanted[row]);
    if (own.contains(token)) { part.wanted = mine[token - own.begin]; }
    parts[row] = part;
  }
  allreduce(comm, parts, join_softmax{});
}

}  // namespace tpx
