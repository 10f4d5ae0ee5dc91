// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/chunk.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace tpx::detail {

/// x becomes a keyed hash of itself: every bit of x and of the key moves every bit of it. Source:
/// the multipliers and shifts of Chris Wellons' triple32 (hash-prospector); the second half of the
/// key goes in between.
TPX_HD inline void keyed_hash(std::uint32_t& x, std::uint32_t const (&key)[2]) {
  x += key[0];
  x ^= x >> 17;
  x *= 0xed5ad4bbu;
  x ^= x >> 11;
  x += key[1];
  x *= 0xac4c1b51u;
  x ^= x >> 15;
  x *= 0x31848babu;
  x ^= x >> 14;
}
/// Sixteen at a time. Said twice, since what runs on a GPU too must not know lanes.
inline void keyed_hash(uint_lanes& x, std::uint32_t const (&key)[2]) {
  x += key[0];
  x ^= x >> 17;
  x *= 0xed5ad4bbu;
  x ^= x >> 11;
  x += key[1];
  x *= 0xac4c1b51u;
  x ^= x >> 15;
  x *= 0x31848babu;
  x ^= x >> 14;
}

/// Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators (OOPSLA 2014).
[[nodiscard]] TPX_HD inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// The exponential noise of every token under (seed, step): independent, of mean 1. The token for
/// which noise / e^logit is least is a draw from the softmax; -ln(noise) is Gumbel's noise.
///
/// It is made top down. The least of a block's 16 is exponential of mean 1/16, and one as likely as
/// another has it; each of the others exceeds it by an exponential of mean 1 of its own, since
/// exponentials have no memory. So one hash tells whether a block of 16 can win at all.
class race_noise {
 public:
  TPX_HD race_noise(std::uint64_t seed, std::uint64_t step) {
    std::uint64_t const key = mix(mix(seed) + step);
    split(mix(key + 1), least_);
    split(mix(key + 2), who_);
    split(mix(key + 3), token_);
  }

  /// The least noise in a block; blocks of the vocabulary are numbered token / 256 * 16 + token
  /// % 16.
  [[nodiscard]] TPX_HD double least(std::uint32_t block) const {
    return exponential(least_bits(block)) / chunk_rows;
  }

  /// The row of the token that has it.
  [[nodiscard]] TPX_HD std::uint32_t first_of(std::uint32_t block) const {
    keyed_hash(block, who_);
    return block >> 28;
  }

  /// The noise of the token in row `row` of a block whose least noise is `least`.
  [[nodiscard]] TPX_HD double of(std::uint32_t block, std::uint32_t row, double least) const {
    if (first_of(block) == row) { return least; }
    return least + exponential(rest_bits(block, row));
  }

  /// What `least` is made of, and what `of` adds.
  [[nodiscard]] TPX_HD std::uint32_t least_bits(std::uint32_t block) const {
    keyed_hash(block, least_);
    return block;
  }
  [[nodiscard]] TPX_HD std::uint32_t rest_bits(std::uint32_t block, std::uint32_t row) const {
    std::uint32_t x = block * std::uint32_t{chunk_rows} + row;
    keyed_hash(x, token_);
    return x;
  }

  /// Of sixteen blocks from `block` on: which may have a least noise under limit (>= 0). A few that
  /// have not are let through.
  void may_win(std::uint32_t block, lanes const& limit, int_lanes& may) const {
    uint_lanes id = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    id += block;
    keyed_hash(id, least_);
    int_lanes const high = convert<std::int32_t>(id >> 8);
    lanes const u = convert<float>(high);
    // e^(-16 limit), which u is to reach, is not under 1 - 16 limit
    may = (u + 9.0f) * 0x1p-24f >= 1.0f - limit * (1.00001f * static_cast<float>(chunk_rows));
  }

 private:
  TPX_HD static void split(std::uint64_t from, std::uint32_t (&to)[2]) {
    to[0] = static_cast<std::uint32_t>(from);
    to[1] = static_cast<std::uint32_t>(from >> 32);
  }

  TPX_HD static double exponential(std::uint32_t bits) {
    return -ln((static_cast<double>(bits) + 0.5) * 0x1p-32);
  }

  std::uint32_t least_[2];
  std::uint32_t who_[2];
  std::uint32_t token_[2];
};

}  // namespace tpx::detail
