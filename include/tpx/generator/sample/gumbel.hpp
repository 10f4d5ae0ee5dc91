// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/noise.hpp>
#include <tpx/generator/sample/stage.hpp>

namespace tpx {
namespace detail {

/// Finds the token whose logit with its noise is the largest.
struct race {
  logit_row const& row;
  float best;
  race_noise noise;
  std::uint64_t winner = 0;  // order_key(logit - best + noise), then the lower token
  float leading = no_logit;

  void all() {
    for (auto const c : row.active()) {
      auto const block = static_cast<std::uint32_t>(row.token(c, 0, 0) / 16);
      lanes most;
      row.load_blocks(c, most);
      lanes limit = most - (best + leading);
      exp_or_zero(limit);  // a block wins only with noise under e^(most - best - leading)
      int_lanes may;
      noise.may_win(block, limit, may);
      may &= most > no_logit;
      if (!any(may)) { continue; }
      for (std::uint32_t i = 0; i < lane_count; ++i) {
        if (may[i] != 0) { enter(c, block + i, i, most[i]); }
      }
    }
  }

  void enter(std::uint32_t c, std::uint32_t block, std::uint32_t lane, float most) {
    double const least = noise.least(block);
    double const gumbel = -std::log(least);
    if (score(most, gumbel) < leading) { return; }
    for (std::uint32_t r = 0; r < chunk_rows; ++r) {
      float const x = row.at(c, r, lane);
      if (!(x > no_logit) || score(x, gumbel) < leading) { continue; }
      float const mine = score(x, -std::log(noise.of(block, r, least)));
      auto const token = static_cast<std::uint32_t>(row.token(c, r, lane));
      std::uint64_t const key = std::uint64_t{order_key(mine)} << 32 | ~token;
      if (key > winner) {
        winner = key;
        leading = mine;
      }
    }
  }

  [[nodiscard]] float score(float logit, double gumbel) const {
    return static_cast<float>(static_cast<double>(logit - best) + gumbel);
  }
};

}  // namespace detail

/// A draw from the softmax of the candidates. 8 bytes reduced.
template <class R>
[[nodiscard]] token_id draw_from(candidates<R>& c) {
  float const best = c.best();
  detail::race run{c.row(), best, {c.request().seed, c.request().step}};
  run.all();
  return static_cast<token_id>(~static_cast<std::uint32_t>(c.largest(run.winner)));
}

namespace sample {

/// Draws a token from the softmax of the candidates: the largest logit + Gumbel noise, which is a
/// function of (seed, step, token id) alone. 8 bytes reduced.
struct Gumbel {
  static constexpr std::string_view name = "Gumbel";
  static constexpr bool on_any_space = true;

  [[nodiscard]] TPX_HD bool neutral() const { return false; }
  void validate() const {}
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  [[nodiscard]] TPX_HD token_id pick(C& c) const {
    return draw_from(c);
  }
};
static_assert(picking_stage<Gumbel>);

}  // namespace sample
}  // namespace tpx
