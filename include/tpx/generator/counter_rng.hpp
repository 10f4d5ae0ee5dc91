// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <cstdint>

namespace tpx {

/// 128 random bits.
struct random_block {
  std::uint32_t word[4];

  friend constexpr bool operator==(random_block const&, random_block const&) = default;
};

/// Philox4x32-10: a bijection of `counter` chosen by `key`; passes BigCrush. No state, so that any
/// thread, rank or GPU gets the same numbers in any order. ~5 ns.
/// Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011), table 2.
[[nodiscard]] TPX_HD constexpr random_block philox(random_block counter, std::uint64_t key) {
  auto low = static_cast<std::uint32_t>(key);
  auto high = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    auto const even = std::uint64_t{0xD2511F53} * counter.word[0];
    auto const odd = std::uint64_t{0xCD9E8D57} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(odd >> 32) ^ counter.word[1] ^ low,
                static_cast<std::uint32_t>(odd),
                static_cast<std::uint32_t>(even >> 32) ^ counter.word[3] ^ high,
                static_cast<std::uint32_t>(even)}};
    low += 0x9E3779B9;
    high += 0xBB67AE85;
  }
  return counter;
}

/// What a random number is for: numbers of different uses are independent of each other.
enum class random_use : std::uint32_t {
  sample,    ///< the sampler's choice of a token
  draft,     ///< a draft model's choice of a token
  accept,    ///< whether a draft's token is accepted
  residual,  ///< the token in place of one that is not
};

/// The random number of a request's `seed` for token `token` at its `step`-th token.
[[nodiscard]] TPX_HD constexpr random_block random_at(std::uint64_t seed, std::uint64_t step,
                                                      std::uint32_t token,
                                                      random_use use = random_use::sample) {
  return philox({{token, static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32),
                  static_cast<std::uint32_t>(use)}},
                seed);
}

/// Uniform in (0, 1), never either end: 53 bits.
[[nodiscard]] TPX_HD constexpr double uniform(random_block const& bits) {
  auto const whole = (std::uint64_t{bits.word[0]} << 32 | bits.word[1]) >> 12;
  return (static_cast<double>(whole) + 0.5) * 0x1p-52;
}

}  // namespace tpx
