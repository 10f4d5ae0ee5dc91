// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/generator/page_hash.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using tpx::hash128;
using tpx::MultiplyMix;
using tpx::token_id;
using text = std::vector<token_id>;

text some_tokens(std::size_t n) {
  text t(n);
  for (std::size_t i = 0; i < n; ++i) { t[i] = static_cast<token_id>(i * 7919 % 128'256); }
  return t;
}

/// How many values there are more than once.
std::size_t repeated(std::vector<std::uint64_t> values) {
  std::sort(values.begin(), values.end());
  return values.size() -
         static_cast<std::size_t>(std::unique(values.begin(), values.end()) - values.begin());
}

}  // namespace

TEST_CASE("texts that differ in little have keys of which no half is the same", "[pages]") {
  std::vector<std::uint64_t> low;
  std::vector<std::uint64_t> high;
  auto const add = [&](hash128 key) {
    low.push_back(key.low);
    high.push_back(key.high);
  };
  text t(256);
  add(MultiplyMix::chain({}, t));
  for (std::size_t i = 0; i < 256; ++i) {  // every token by itself, and in every place
    for (token_id v = 1; v < 400; ++v) {
      t[i] = v;
      add(MultiplyMix::chain({}, t));
    }
    t[i] = 0;
  }
  for (std::uint64_t i = 1; i < 50'000; ++i) {  // salts, and keys of other pages
    add(MultiplyMix::chain({i, 0}, t));
    add(MultiplyMix::chain({0, i}, t));
  }
  for (std::size_t n = 0; n < 256; ++n) {  // lengths, where the rest is like padding
    add(MultiplyMix::chain({}, std::span{t}.first(n)));
  }
  CHECK(repeated(low) == 0);
  CHECK(repeated(high) == 0);
  low.insert(low.end(), high.begin(), high.end());
  CHECK(repeated(low) == 0);
}

TEST_CASE("tokens that change places change the key", "[pages]") {
  text t = some_tokens(64);
  std::vector<std::uint64_t> keys{MultiplyMix::chain({}, t).low};
  for (std::size_t i = 0; i < t.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      std::swap(t[i], t[j]);
      keys.push_back(MultiplyMix::chain({}, t).low);
      std::swap(t[i], t[j]);
    }
  }
  REQUIRE(repeated(keys) == 0);
}

TEST_CASE("one bit of a page or of the key before it turns half of the key's bits", "[pages]") {
  for (std::size_t const n : {std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{256}}) {
    text t = some_tokens(n);
    hash128 const before{123, 456};
    hash128 const key = MultiplyMix::chain(before, t);
    std::size_t flips = 0;
    std::size_t least = 128;
    std::size_t tries = 0;
    auto const compare = [&](hash128 other) {
      auto const turned = static_cast<std::size_t>(std::popcount(other.low ^ key.low) +
                                                   std::popcount(other.high ^ key.high));
      flips += turned;
      least = std::min(least, turned);
      ++tries;
    };
    for (auto& x : t) {
      for (int bit = 0; bit < 32; ++bit) {
        x ^= static_cast<token_id>(1u << bit);
        compare(MultiplyMix::chain(before, t));
        x ^= static_cast<token_id>(1u << bit);
      }
    }
    for (int bit = 0; bit < 64; ++bit) {
      compare(MultiplyMix::chain({before.low ^ std::uint64_t{1} << bit, before.high}, t));
      compare(MultiplyMix::chain({before.low, before.high ^ std::uint64_t{1} << bit}, t));
    }
    double const mean = static_cast<double>(flips) / static_cast<double>(tries);
    INFO(n << " tokens: " << mean << " bits on average, at least " << least);
    CHECK(mean > 62.0);
    CHECK(mean < 66.0);
    CHECK(least > 30);
  }
}
