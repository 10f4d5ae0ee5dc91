// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tpx {

/// How many tokens to draft for a job, learnt from how many of its last drafts were accepted.
///
/// A moving average of the tokens accepted a round, quick to rise and slower to fall: the next
/// draft is as long as that, rounded up. A draft that was accepted whole counts one more than it
/// had, for it might have gone on. Below `skip` nothing is drafted but a short probe every
/// `probe_every` rounds. Trivially copyable: a part of what a rewind takes back. The numbers are
/// those of exllamav3's generator (dynamic_draft_*).
class draft_window {
 public:
  /// Drafts at most `most` tokens, and as many until something is known; 0: never any.
  explicit constexpr draft_window(std::uint32_t most = 0) noexcept
      : most_{most}, mean_{static_cast<float>(most)} {}

  /// Tokens to draft in this round.
  [[nodiscard]] constexpr std::uint32_t size() const noexcept {
    if (mean_ < skip) { return idle_ + 1 < probe_every ? 0 : std::min(probe, most_); }
    auto const whole = static_cast<std::uint32_t>(mean_);
    auto const up = whole + (static_cast<float>(whole) < mean_ ? 1 : 0);
    return std::clamp(up, std::min(1u, most_), most_);
  }

  /// Of a round: how many tokens were drafted, and how many of these were accepted. Every round,
  /// with 0 and 0 where none were.
  constexpr void learn(std::uint32_t drafted, std::uint32_t accepted) noexcept {
    if (drafted == 0) {
      idle_ = std::min(idle_ + 1, probe_every);
      return;
    }
    idle_ = 0;
    auto const seen = static_cast<float>(accepted + (accepted == drafted ? 1 : 0));
    auto const weight = seen > mean_ ? rise : fall;
    mean_ = std::clamp(mean_ + weight * (seen - mean_), 0.0f, static_cast<float>(most_));
  }

  /// The moving average: tokens accepted a round.
  [[nodiscard]] constexpr float mean() const noexcept { return mean_; }

  static constexpr float rise = 1.30f;  // more than 1: a draft longer than the last one's success
  static constexpr float fall = 0.65f;
  static constexpr float skip = 0.3f;
  static constexpr std::uint32_t probe = 2;  // tokens
  static constexpr std::uint32_t probe_every = 16;

 private:
  std::uint32_t most_;
  std::uint32_t idle_ = 0;  // rounds without a draft since the last one
  float mean_;
};

}  // namespace tpx
