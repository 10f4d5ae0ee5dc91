// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

#include <numbers>

namespace tpx::sample {

/// Keeps tokens with a surprise -log2 p of at most mu, and the best; then mu moves so that the
/// surprise of what is drawn tends to tau. Source: Basu et al., Mirostat (ICLR 2021), version 2, as
/// in exllamav2 and llama.cpp: mu begins as 2 tau, and surprise is seen in what is left to draw
/// from.
struct Mirostat2 {
  static constexpr std::string_view name = "Mirostat2";
  static constexpr bool on_any_space = true;
  float tau = 0;  // bits; 0 turns it off
  float eta = 0.1f;

  struct state {
    float mu = 0;
    bool begun = false;
  };

  [[nodiscard]] TPX_HD bool neutral() const { return tau == 0; }
  void validate() const {
    detail::expect_within("Mirostat2: tau", tau, 0, 100);
    detail::expect_within("Mirostat2: eta", eta, 0, 10);
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c, state& s) const {
    if (!s.begun) { s = {2 * tau, true}; }
    double const nats = detail::product(static_cast<double>(s.mu), std::numbers::ln2);
    c.keep_from(c.best() + static_cast<float>(c.log_total() - nats));
  }
  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void picked(C& c, token_id token, state& s) const {
    double const under = static_cast<double>(c.best() - c.logit(token));
    double const surprise = (under + c.log_total()) / std::numbers::ln2;
    s.mu += detail::product(eta, tau - static_cast<float>(surprise));
  }
};
static_assert(stateful_stage<Mirostat2>);

}  // namespace tpx::sample
