// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/memory.hpp>

namespace tpx::detail {

/// A rank's part of a row of logits as stages see it: logits that are scaled and cut off lazily,
/// and chunks that are copied when one of their logits is changed. Knows nothing of other ranks.
class logit_row {
 public:
  /// Finds the largest logits, in one pass; tokens that mask or padding forbid are not read, and
  /// their chunks copied.
  logit_row(sampler_memory& memory, sample_request const& request, bool masked)
      : m_{memory},
        request_{request},
        mask_{masked ? request.mask : std::span<std::uint32_t const>{}},
        end_{std::min(memory.options().first + memory.options().columns, memory.options().vocab)} {
    if (!mask_.empty()) { end_ = std::min(end_, 32 * mask_.size()); }
    int_lanes nan = {};
    for (std::size_t c = 0; c < memory.chunks(); ++c) {
      lanes most = no_logit;
      if (take(c)) { scan(m_.at[c], most, nan); }
      store(m_.blocks[c].logits, most);
      m_.top[c] = largest(most);
      if (m_.top[c] > no_logit) { m_.active[actives_++] = static_cast<std::uint32_t>(c); }
    }
    has_nan_ = any(nan);
  }

  [[nodiscard]] sampler_memory& memory() { return m_; }
  [[nodiscard]] sample_request const& request() const { return request_; }
  [[nodiscard]] bool has_nan() const { return has_nan_; }
  [[nodiscard]] std::span<std::uint32_t const> active() const {
    return {m_.active.data(), actives_};
  }

  /// The largest logit here, -infinity if there is no candidate.
  [[nodiscard]] float local_best() const {
    float most = no_logit;
    for (auto const c : active()) { most = std::max(most, m_.top[c]); }
    return most > no_logit ? most * scale_ : most;
  }

  /// The largest logit of a chunk that may have candidates.
  [[nodiscard]] float top(std::uint32_t c) const { return m_.top[c] * scale_; }

  /// The logits of a row of a chunk; -infinity for what is not a candidate.
  void load_row(std::uint32_t c, std::size_t row, lanes& to) const {
    load(to, m_.at[c] + row * lane_count);
    if (floor_ > no_logit) { keep(to, to >= floor_); }
    if (scale_ != 1) { to *= scale_; }
  }
  /// The largest logits of a chunk's blocks, where they are candidates.
  void load_blocks(std::uint32_t c, lanes& to) const {
    load(to, m_.blocks[c].logits);
    keep(to, to >= floor_);
    to *= scale_;
  }

  /// The logit in row `row` of block `lane` of a chunk.
  [[nodiscard]] float at(std::uint32_t c, std::size_t row, std::size_t lane) const {
    float const x = m_.at[c][row * lane_count + lane];
    return x >= floor_ ? x * scale_ : no_logit;
  }

  /// Its token.
  [[nodiscard]] token_id token(std::uint32_t c, std::size_t row, std::size_t lane) const {
    return static_cast<token_id>(m_.origin() + c * chunk_size + row * lane_count + lane);
  }

  /// The token's logit; -infinity if it is no candidate or not here.
  [[nodiscard]] float logit(token_id token) const {
    auto const i = static_cast<std::size_t>(token) - m_.origin();
    auto const c = static_cast<std::uint32_t>(i / chunk_size);
    if (token < 0 || i / chunk_size >= m_.chunks()) { return no_logit; }
    if (!std::binary_search(active().begin(), active().end(), c)) { return no_logit; }
    return at(c, i % chunk_size / lane_count, i % lane_count);
  }

  [[nodiscard]] float before(token_id token) const {
    auto const i = static_cast<std::size_t>(token) - m_.origin();
    return m_.before[i / chunk_size].logits[i % chunk_size];
  }

  void multiply(float by) { scale_ *= by; }

  /// Candidates under `floor` are none any more.
  void keep_from(float floor) {
    floor_ = std::max(floor_, unscaled(floor));
    std::size_t left = 0;
    for (auto const c : active()) {
      m_.active[left] = c;
      left += static_cast<std::size_t>(m_.top[c] >= floor_);
    }
    actives_ = left;
  }

  /// f(x, t) changes the logits x of tokens t to t + 15; what is no candidate stays none.
  template <class F>
  void transform(F f) {
    std::size_t left = 0;
    for (auto const c : active()) {
      lanes most = no_logit;
      for (std::size_t r = 0; r < chunk_rows; ++r) {
        lanes x;
        load_row(c, r, x);
        lanes y = x;
        f(y, token(c, r, 0));
        keep(y, x > no_logit);
        raise(most, y);
        store(m_.own[c].logits + r * lane_count, y);
      }
      m_.at[c] = m_.own[c].logits;
      store(m_.blocks[c].logits, most);
      m_.top[c] = largest(most);
      m_.active[left] = c;
      left += static_cast<std::size_t>(m_.top[c] > no_logit);
    }
    actives_ = left;
    scale_ = 1;
    floor_ = no_logit;
  }

  /// Puts -infinity where there is no candidate, and the scale into the logits.
  void settle() {
    if (scale_ != 1 || floor_ > no_logit) {
      transform([](lanes&, token_id) {});
    }
  }

  /// Gives one candidate the logit f(logit). Copies its chunk the first time.
  template <class F>
  void edit(token_id token, F f) {
    settle();
    float const old = logit(token);
    if (!(old > no_logit)) { return; }
    auto const i = static_cast<std::size_t>(token) - m_.origin();
    auto const c = i / chunk_size;
    float* const mine = m_.own[c].logits;
    if (m_.at[c] != mine) {
      std::memcpy(mine, m_.at[c], sizeof(chunk));
      m_.at[c] = mine;
    }
    float const now = f(old);
    has_nan_ = has_nan_ || now != now;
    mine[i % chunk_size] = now;
    float& block = m_.blocks[c].logits[i % lane_count];
    if (now >= block) {
      block = now;
      m_.top[c] = std::max(m_.top[c], now);
    } else if (old == block) {
      block = no_logit;
      for (std::size_t k = i % lane_count; k < chunk_size; k += lane_count) {
        block = std::max(block, mine[k]);
      }
      m_.top[c] = *std::max_element(m_.blocks[c].logits, m_.blocks[c].logits + lane_count);
    }
  }

 private:
  /// The least number that is at least `floor` once it is scaled and rounded.
  [[nodiscard]] float unscaled(float floor) const {
    std::uint32_t low = order_key(no_logit);
    std::uint32_t high = order_key(-no_logit);
    while (low < high) {
      std::uint32_t const middle = low + (high - low) / 2;
      bool const enough = from_order_key(middle) * scale_ >= floor;
      (enough ? high : low) = enough ? middle : middle + 1;
    }
    return from_order_key(low);
  }

  /// Points at[c] at the chunk's logits; false if all of them are forbidden.
  bool take(std::size_t c) {
    std::size_t const begin = m_.origin() + c * chunk_size;
    std::size_t const first = m_.options().first;
    float const* const from = request_.logits.data();
    if (mask_.empty() && begin >= first && begin + chunk_size <= end_) {
      m_.at[c] = from + (begin - first);
      return true;
    }
    std::uint32_t word[chunk_size / 32];
    std::uint32_t some = 0;
    std::uint32_t all = ~0u;
    for (std::size_t w = 0; w < chunk_size / 32; ++w) {
      std::size_t const t = begin + 32 * w;
      std::uint32_t bits = 0;
      if (t < end_) {
        bits = mask_.empty() ? ~0u : mask_[t / 32];
        if (end_ - t < 32) { bits &= (1u << (end_ - t)) - 1; }
        if (t < first) { bits &= first - t < 32 ? ~0u << (first - t) : 0u; }
      }
      word[w] = bits;
      some |= bits;
      all &= bits;
    }
    if (all == ~0u) {
      m_.at[c] = from + (begin - first);
      return true;
    }
    float* const mine = m_.own[c].logits;
    m_.at[c] = mine;
    if (some == 0) { return false; }
    bool const edge = begin < first || begin + chunk_size > first + m_.options().columns;
    int_lanes const bit = {1,      1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                           1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
    for (std::size_t r = 0; r < chunk_rows; ++r) {
      auto const bits = static_cast<std::int32_t>(word[r / 2] >> (r % 2 * lane_count));
      lanes x;
      if (!edge) {
        load(x, from + (begin + r * lane_count - first));
      } else {
        float part[lane_count] = {};
        for (std::size_t i = 0; i < lane_count; ++i) {
          if ((bits >> i & 1) != 0) { part[i] = from[begin + r * lane_count + i - first]; }
        }
        load(x, part);
      }
      keep(x, (bit & bits) != 0);
      store(mine + r * lane_count, x);
    }
    return true;
  }

  static void scan(float const* from, lanes& most, int_lanes& nan) {
    for (std::size_t r = 0; r < chunk_rows; ++r) {
      lanes x;
      load(x, from + r * lane_count);
      nan |= x != x;
      raise(most, x);
    }
  }

  sampler_memory& m_;
  sample_request const& request_;
  std::span<std::uint32_t const> mask_;
  std::size_t end_;
  std::size_t actives_ = 0;
  float scale_ = 1;
  float floor_ = no_logit;  // of logits that are not scaled yet
  bool has_nan_;
};

}  // namespace tpx::detail
