// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/noise.hpp>
#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Draws a token from the softmax of the candidates: the largest logit + Gumbel noise, which is a
/// function of (seed, step, token id) alone. 8 bytes reduced.
struct Gumbel {
  static constexpr std::string_view name = "Gumbel";

  [[nodiscard]] bool neutral() const { return false; }
  void validate() const {}
  template <class R>
  [[nodiscard]] token_id pick(candidates<R>& c) const {
    float const best = c.best();
    race run{c.row(), best, {c.request().seed, c.request().step}};
    run.all();
    c.reduction().max(std::span{&run.winner, 1});
    return static_cast<token_id>(~static_cast<std::uint32_t>(run.winner));
  }

 private:
  struct race {
    detail::logit_row const& row;
    float best;
    detail::race_noise noise;
    std::uint64_t winner = 0;  // order_key(logit - best + noise), then the lower token
    float leading = detail::no_logit;

    void all() {
      for (auto const c : row.active()) {
        auto const block = static_cast<std::uint32_t>(row.token(c, 0, 0) / 16);
        detail::lanes most;
        row.load_blocks(c, most);
        detail::lanes limit = most - (best + leading);
        detail::exp_or_zero(limit);  // a block wins only with noise under e^(most - best - leading)
        detail::int_lanes may;
        noise.may_win(block, limit, may);
        may &= most > detail::no_logit;
        if (!detail::any(may)) { continue; }
        for (std::uint32_t i = 0; i < detail::lane_count; ++i) {
          if (may[i] != 0) { enter(c, block + i, i, most[i]); }
        }
      }
    }

    void enter(std::uint32_t c, std::uint32_t block, std::uint32_t lane, float most) {
      double const least = noise.least(block);
      if (score(most, least) < leading) { return; }
      for (std::uint32_t r = 0; r < detail::chunk_rows; ++r) {
        float const x = row.at(c, r, lane);
        if (!(x > detail::no_logit) || score(x, least) < leading) { continue; }
        float const mine = score(x, noise.of(block, r, least));
        auto const token = static_cast<std::uint32_t>(row.token(c, r, lane));
        std::uint64_t const key = std::uint64_t{detail::order_key(mine)} << 32 | ~token;
        if (key > winner) {
          winner = key;
          leading = mine;
        }
      }
    }

    [[nodiscard]] float score(float logit, double wait) const {
      return static_cast<float>(static_cast<double>(logit - best) - std::log(wait));
    }
  };
};
static_assert(picking_stage<Gumbel>);

}  // namespace tpx::sample
