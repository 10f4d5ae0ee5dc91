// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/token.hpp>
#include <tpx/layer/lanes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace tpx {

/// What counts as a loop: the last tokens are the same `period` tokens over and over.
struct loop_options {
  std::size_t max_period = 64;
  std::size_t repeats = 4;       // so many times at least, 2 or more
  std::size_t min_tokens = 64;   // and so many tokens at least: a row of dashes is no loop
  std::size_t max_rewind = 256;  // from the most tokens there were
};

/// Sees that a sequence goes round in circles. A token costs max_period / 16 steps of 16 lanes,
/// always: each period knows when it will be a loop unless a token breaks it.
class loop_detector {
 public:
  explicit loop_detector(loop_options const& options = {}) : options_{options} {
    auto const& o = options;
    expects(o.max_period >= 1 && o.repeats >= 2 && o.max_period <= most / o.repeats &&
              o.min_tokens <= most && o.max_rewind <= most,
            [&] {
              return "loops of period " + std::to_string(o.max_period) + ", " +
                     std::to_string(o.repeats) + " times, " + std::to_string(o.min_tokens) +
                     " tokens; at least 1, 2 and 0, and at most a million tokens are possible";
            });
    width_ = detail::whole_lanes(o.max_period);
    need_.assign(width_, std::numeric_limits<std::int32_t>::max() / 2);
    std::size_t longest = 0;
    for (std::size_t period = 1; period <= o.max_period; ++period) {
      auto const tokens = std::max(period * o.repeats, o.min_tokens);
      need_[width_ - period] = static_cast<std::int32_t>(tokens - period);
      longest = std::max(longest, tokens);
    }
    due_ = need_;
    keep_ = width_ + longest + 2 * o.max_rewind;
    tokens_.assign(2 * keep_, token_id{-1});
    end_ = keep_;
  }

  /// Takes the next token; returns the shortest period in which the last tokens loop, or 0.
  std::size_t push(token_id token) {
    if (end_ == tokens_.size()) {
      std::copy(tokens_.end() - static_cast<std::ptrdiff_t>(keep_), tokens_.end(), tokens_.begin());
      end_ = keep_;
    }
    detail::int_lanes found{};
    for (std::size_t i = 0; i < width_; i += detail::lane_count) {
      detail::int_lanes before, need, due;
      std::memcpy(&before, &tokens_[end_ - width_ + i], sizeof(before));
      std::memcpy(&need, &need_[i], sizeof(need));
      std::memcpy(&due, &due_[i], sizeof(due));
      detail::int_lanes const same = before == token;
      due = (due & same) | ((need + size_) & ~same);
      std::memcpy(&due_[i], &due, sizeof(due));
      found |= due <= size_;
    }
    tokens_[end_++] = token;
    ++size_;
    std::int32_t any = 0;
    for (std::size_t lane = 0; lane < detail::lane_count; ++lane) { any |= found[lane]; }
    return any == 0 ? 0 : shortest();
  }

  /// Takes back the last `count` tokens; to max_rewind before the most there ever were, it can
  /// always.
  void rewind(std::size_t count) {
    expects(count <= static_cast<std::size_t>(size_) && count + keep_ <= end_ + options_.max_rewind,
            [&] {
              return "a rewind by " + std::to_string(count) + " of " + std::to_string(size_) +
                     " tokens; max_rewind is " + std::to_string(options_.max_rewind);
            });
    end_ -= count;
    size_ -= static_cast<std::int32_t>(count);
    for (std::size_t period = 1; period <= options_.max_period; ++period) {
      auto const i = width_ - period;
      if (due_[i] - need_[i] < size_) { continue; }  // it was broken before
      auto const enough = need_[i] + static_cast<std::int32_t>(options_.max_rewind);
      std::int32_t streak = 0;
      for (auto at = end_ - 1; streak < enough && tokens_[at] == tokens_[at - period]; --at) {
        ++streak;
      }
      due_[i] = size_ - 1 - streak + need_[i];
    }
  }

 private:
  static constexpr std::size_t most = std::size_t{1} << 20;

  [[nodiscard]] std::size_t shortest() const {
    std::size_t period = 1;
    while (due_[width_ - period] >= size_) { ++period; }
    return period;
  }

  loop_options options_;
  std::size_t width_ = 0;           // lanes, the last of which is period 1
  std::size_t keep_ = 0;            // tokens that may be looked at
  std::size_t end_ = 0;             // of tokens_
  std::int32_t size_ = 0;           // tokens so far
  std::vector<token_id> tokens_;    // the last ones; before the first, what equals no token
  std::vector<std::int32_t> need_;  // repeated tokens that make a period a loop
  std::vector<std::int32_t> due_;   // the token with which it will be one
};

}  // namespace tpx
