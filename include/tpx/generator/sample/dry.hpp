// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/stage.hpp>

namespace tpx::sample {

/// Don't repeat yourself: a token that would prolong a repetition of `length` tokens of the history
/// loses multiplier * base^(length - allowed_length). No repetition reaches over a breaker, and
/// breakers lose nothing.
///
/// Source: p-e-w's scheme as in exllamav3 SS_DRY and llama.cpp: the exponent stops where base^x
/// passes the largest float, lengths stop at 2048, breakers are single tokens.
/// Cost    linear in the range, by the Z algorithm (Gusfield 1997, section 1.4).
struct Dry {
  static constexpr std::string_view name = "Dry";
  static constexpr bool on_any_space = true;
  static constexpr bool looks_at_history = true;
  float multiplier = 0;
  float base = 1.75f;
  int allowed_length = 2;
  int range = 0;                            // 0: the whole history
  std::span<token_id const> breakers = {};  // ascending; the caller's

  [[nodiscard]] TPX_HD bool neutral() const { return multiplier == 0 || base < 1; }
  template <class F>
  void spans(F f) {
    f(breakers);
  }
  void validate() const {
    detail::expect_within("Dry: multiplier", multiplier, 0, 1e6);
    detail::expect_within("Dry: base", base, 0, 1e6);
    expects(allowed_length >= 0 && range >= 0,
            "Dry: allowed_length and range must not be negative");
    expects(std::is_sorted(breakers.begin(), breakers.end()), "Dry: breakers are not ascending");
  }

  _CCCL_EXEC_CHECK_DISABLE
  template <class C>
  TPX_HD void apply(C& c) const {
    c.edit_found(*this, [](float logit, float penalty) { return logit - penalty; });
  }

  /// Calls add(token, n) for each token that would prolong a repetition, n - 1 over the allowed
  /// length: once for each place where it is repeated.
  template <class F>
  void find(std::span<token_id const> history, F add) const {
    std::size_t const n =
      range == 0 ? history.size() : std::min(history.size(), static_cast<std::size_t>(range));
    auto const allowed = static_cast<std::size_t>(allowed_length);
    if (n <= allowed) { return; }
    token_id const* const last = history.data() + history.size() - 1;  // last[-i]: i tokens ago
    auto const ago = [last](std::size_t i) { return *(last - i); };
    std::size_t unbroken = 0;
    while (unbroken < n && !breaks(ago(unbroken))) { ++unbroken; }

    std::array<std::uint16_t, longest> matched;  // what of the end is repeated i tokens before it
    std::size_t const most = longest_found();
    std::size_t begin = 0;
    std::size_t end = 0;  // [begin, end) ago is like [0, end - begin) ago
    for (std::size_t i = 1; i < n; ++i) {
      std::size_t length = i < end ? std::min<std::size_t>(end - i, matched[i - begin]) : 0;
      while (length < most && i + length < n && ago(length) == ago(i + length)) { ++length; }
      if (i + length > end) {
        begin = i;
        end = i + length;
      }
      if (i < most) { matched[i] = static_cast<std::uint16_t>(length); }
      length = std::min(length, unbroken);
      token_id const follower = ago(i - 1);
      if (length >= allowed && !breaks(follower)) {
        add(follower, static_cast<float>(length - allowed + 1));
      }
    }
  }

  /// Of such a token, at its largest n.
  [[nodiscard]] TPX_HD float penalty(float n) const {
    auto exponent = static_cast<std::size_t>(n) - 1;
    std::size_t const limit = exponent_limit();
    if (limit > 0 && exponent > limit) { exponent = limit; }
    return static_cast<float>(static_cast<double>(multiplier) *
                              std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  /// Longer repetitions are as good as that.
  [[nodiscard]] TPX_HD std::size_t longest_found() const {
    std::size_t const limit = exponent_limit();
    std::size_t const most = static_cast<std::size_t>(allowed_length) + limit;
    return limit == 0 || most > longest ? longest : most;
  }

 private:
  static constexpr std::size_t longest = 2048;

  [[nodiscard]] bool breaks(token_id token) const {
    return std::binary_search(breakers.begin(), breakers.end(), token);
  }
  [[nodiscard]] TPX_HD std::size_t exponent_limit() const {
    return base > 1.000001f
             ? static_cast<std::size_t>(88.7228391 / detail::ln(static_cast<double>(base)))
             : 0;
  }
};
static_assert(sampler_stage<Dry>);

}  // namespace tpx::sample
