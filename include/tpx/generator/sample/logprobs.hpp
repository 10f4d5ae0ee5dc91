// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/select.hpp>

namespace tpx::detail {

template <class C>
[[nodiscard]] float logprob(C& c, float logit) {
  return static_cast<float>(static_cast<double>(logit - c.best()) - c.log_total());
}

/// Writes the likeliest candidates to `to`, likeliest first, of equal ones the lower token.
/// Cost    as TopK, and 8 bytes reduced for each.
template <class C>
[[nodiscard]] std::span<token_logprob const> write_likeliest(C& c, std::span<token_logprob> to) {
  if (to.empty()) { return {}; }
  selection likely{c, largest_first{}};
  float const from = likely.end(std::uint64_t{to.size()});
  // This rank's, in order. They are few: equal ones beyond the room are passed over.
  auto& logits = c.row().memory().logits;
  auto& tokens = c.row().memory().weights;
  std::size_t const room = std::min(to.size(), logits.size());
  std::size_t n = 0;
  c.for_each_from(from, [&](token_id token, float logit) {
    if (n == room && logits[n - 1] >= logit) { return; }
    std::size_t at = n < room ? n++ : n - 1;
    for (; at > 0 && logits[at - 1] < logit; --at) {
      logits[at] = logits[at - 1];
      tokens[at] = tokens[at - 1];
    }
    logits[at] = logit;
    tokens[at] = static_cast<std::uint64_t>(token);
  });
  // Ranks show their first; the best of these is next.
  std::size_t used = 0;
  std::size_t written = 0;
  for (; written < to.size(); ++written) {
    std::uint64_t mine = 0;
    if (used < n) {
      mine =
        std::uint64_t{order_key(logits[used])} << 32 | ~static_cast<std::uint32_t>(tokens[used]);
    }
    std::uint64_t next = mine;
    c.reduction().max(std::span{&next, 1});
    if (next == 0) { break; }
    used += static_cast<std::size_t>(next == mine);
    to[written] = {static_cast<token_id>(~static_cast<std::uint32_t>(next)),
                   logprob(c, from_order_key(static_cast<std::uint32_t>(next >> 32)))};
  }
  return to.first(written);
}

}  // namespace tpx::detail
