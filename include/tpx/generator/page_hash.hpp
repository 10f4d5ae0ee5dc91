// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tpx {

/// Stands for the tokens of a page and for all that come before them.
struct hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend constexpr bool operator==(hash128 const&, hash128 const&) = default;
};

/// How a page table hashes: `H::chain(parent, tokens)` is the key of a page with `tokens` after a
/// page with key `parent`. Before a sequence's first page `parent` is {salt, 0}.
template <class H>
concept page_hash = requires(hash128 parent, std::span<token_id const> tokens) {
  { H::chain(parent, tokens) }
  noexcept->std::same_as<hash128>;
};

namespace detail {

/// Both halves of the 128-bit product, folded.
[[nodiscard]] constexpr std::uint64_t multiply_mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using wide = unsigned __int128;
  wide const product = static_cast<wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace detail

/// Two 64-bit multiply-mix hashes with constants of their own, each in four lanes (after wyhash:
/// Wang Yi, "Modern non-cryptographic hash function and pseudorandom number generator"). Fast, and
/// no protection against people who look for collisions; the page table compares tokens as well.
struct MultiplyMix {
  [[nodiscard]] static hash128 chain(hash128 parent, std::span<token_id const> tokens) noexcept {
    using detail::multiply_mix;
    std::uint64_t low[4];
    std::uint64_t high[4];
    for (std::size_t i = 0; i < 4; ++i) {
      low[i] = multiply_mix(parent.low ^ odd[i], parent.high ^ odd[i + 4]);
      high[i] = multiply_mix(parent.high ^ odd[i], parent.low ^ odd[7 - i]);
    }
    auto const mix = [&](token_id const* from) {
      for (std::size_t i = 0; i < 4; ++i) {
        std::uint64_t words[2];
        std::memcpy(words, from + 4 * i, sizeof(words));
        low[i] = multiply_mix(words[0] ^ low[i], words[1] ^ odd[i]);
        high[i] = multiply_mix(words[1] ^ high[i], words[0] ^ odd[i + 4]);
      }
    };
    std::size_t done = 0;
    for (; done + step <= tokens.size(); done += step) { mix(tokens.data() + done); }
    if (done < tokens.size()) {
      token_id rest[step]{};
      std::memcpy(rest, tokens.data() + done, (tokens.size() - done) * sizeof(token_id));
      mix(rest);
    }
    auto const fold = [](std::uint64_t const(&x)[4], std::uint64_t with) {
      return multiply_mix(multiply_mix(x[0] ^ odd[4], x[1] ^ odd[5]) ^ with,
                          multiply_mix(x[2] ^ odd[6], x[3] ^ odd[7]) ^ odd[0]);
    };
    return {fold(low, odd[1] ^ tokens.size()), fold(high, odd[2] ^ tokens.size())};
  }

 private:
  static constexpr std::size_t step = 16;  // tokens a round

  // Odd, with 32 bits set: the first outputs of SplitMix64 from 0 that are so.
  static constexpr std::uint64_t odd[8]{
    0x377d35dea8e40225u, 0x4fa9fa7324851729u, 0x690ed476743aae49u, 0x56e4398a98f8a0fdu,
    0xc847729f4e08f3a3u, 0x4eead809af5b0cc3u, 0xd7bd4284c4e2a6a7u, 0x44993d31552b4f57u};
};
static_assert(page_hash<MultiplyMix>);

}  // namespace tpx
