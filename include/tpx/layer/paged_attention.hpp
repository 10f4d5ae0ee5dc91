// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/layer/paged_cache.hpp>
#include <tpx/split.hpp>

#include <cmath>
#include <limits>
#include <span>

namespace tpx {

/// Which heads a rank has. Query head h reads key/value head h / group: grouped-query attention
/// (Ainslie et al. 2023, arXiv:2305.13245). `kv` covers what `query` needs; both may be empty.
struct head_range {
  shard_range query;
  shard_range kv;
  std::size_t group = 1;
  std::size_t head_dim = 0;

  [[nodiscard]] constexpr std::size_t query_columns() const { return query.size() * head_dim; }
  [[nodiscard]] constexpr std::size_t kv_columns() const { return kv.size() * head_dim; }
};

namespace detail {

/// Scores of Heads heads that read one key/value head, positions 0 to n - 1: q . k * scale; the
/// rest of the last lanes is -infinity. q: (Heads, head_dim); scores: (Heads, pitch).
template <std::size_t Heads, class Cache>
void attention_scores(Cache const& cache, std::span<std::uint32_t const> table, std::size_t kv,
                      std::size_t n, float const* q, float* scores, std::size_t pitch) {
  std::size_t const dim = cache.head_dim();
  float const scale = 1.0f / std::sqrt(static_cast<float>(dim));
  for (std::size_t p = 0; p < n; p += lane_count) {
    auto const* const keys = cache.keys(table[p / Cache::page_size], kv) + p % Cache::page_size;
    lanes sums[Heads] = {};
    for (std::size_t d = 0; d < dim; ++d) {
      lanes k;
      load(k, keys + d * Cache::page_size);
      for (std::size_t h = 0; h < Heads; ++h) { sums[h] += k * q[h * dim + d]; }
    }
    for (std::size_t h = 0; h < Heads; ++h) { store(scores + h * pitch + p, sums[h] * scale); }
  }
  for (std::size_t h = 0; h < Heads; ++h) {
    for (std::size_t p = n; p < whole_lanes(n); ++p) {
      scores[h * pitch + p] = -std::numeric_limits<float>::infinity();
    }
  }
}

/// The n scores, filled up with -infinity to whole lanes, become e^(score - most); returns their
/// sum.
inline float exponentials(float* scores, std::size_t n) {
  lanes most;
  load(most, scores);
  for (std::size_t p = lane_count; p < n; p += lane_count) {
    lanes s;
    load(s, scores + p);
    most = s > most ? s : most;
  }
  float const top = largest(most);
  lanes total = {};
  for (std::size_t p = 0; p < n; p += lane_count) {
    lanes s;
    load(s, scores + p);
    s -= top;
    exp(s);
    store(scores + p, s);
    total += s;
  }
  return sum(total);
}

/// out[h] = sum over p of weights[h, p] v[p], divided by total[h].
template <std::size_t Heads, class Cache>
void attention_values(Cache const& cache, std::span<std::uint32_t const> table, std::size_t kv,
                      std::size_t n, float const* weights, std::size_t pitch, float const* total,
                      float* out) {
  std::size_t const dim = cache.head_dim();
  for (std::size_t d = 0; d < dim; d += lane_count) {
    lanes sums[Heads] = {};
    for (std::size_t first = 0; first < n; first += Cache::page_size) {
      auto const* const values = cache.values(table[first / Cache::page_size], kv) + d;
      std::size_t const some = n - first < Cache::page_size ? n - first : Cache::page_size;
      for (std::size_t p = 0; p < some; ++p) {
        lanes v;
        load(v, values + p * cache.value_pitch());
        for (std::size_t h = 0; h < Heads; ++h) { sums[h] += v * weights[h * pitch + first + p]; }
      }
    }
    for (std::size_t h = 0; h < Heads; ++h) {
      store(out + h * dim + d, sums[h] / total[h], dim - d < lane_count ? dim - d : lane_count);
    }
  }
}

template <std::size_t Heads, class Cache>
void attend(Cache const& cache, std::span<std::uint32_t const> table, std::size_t kv, std::size_t n,
            float const* q, float* out, float* scores, std::size_t pitch) {
  attention_scores<Heads>(cache, table, kv, n, q, scores, pitch);
  float total[Heads];
  for (std::size_t h = 0; h < Heads; ++h) { total[h] = exponentials(scores + h * pitch, n); }
  attention_values<Heads>(cache, table, kv, n, scores, pitch, total, out);
}

}  // namespace detail

/// The most query heads that share one reading of the cache.
inline constexpr std::size_t attention_heads_at_once = 4;

/// Floats that paged_attention needs for sequences of up to `positions`.
[[nodiscard]] constexpr std::size_t attention_scratch(std::size_t positions) {
  return attention_heads_at_once * detail::whole_lanes(positions);
}

/// Causal attention of `tokens` new tokens, whose keys and values are in the cache already, over
/// all positions up to their own: out = softmax(q k / sqrt(head_dim)) v, head by head.
///
/// Shapes  q, out: (tokens, own query heads, head_dim), q with its positions turned in; token t is
///         at position start + t; scratch: attention_scratch(start + tokens).
/// Order   fp32; the largest score is subtracted first. A token's bits depend neither on how many
///         tokens come at once nor on which heads a rank has.
/// Cost    2 head_dim products for each pair of position and head; the cache is read once a token
///         for up to 4 query heads of a group.
template <class Cache>
void paged_attention(Cache const& cache, std::span<std::uint32_t const> table,
                     head_range const& heads, std::size_t start, std::size_t tokens,
                     std::span<float const> q, std::span<float> out, std::span<float> scratch) {
  std::size_t const own = heads.query.size();
  std::size_t const dim = heads.head_dim;
  if (own == 0 || tokens == 0) { return; }
  detail::expect_shape("paged_attention: q", q.size(), tokens, own * dim);
  detail::expect_shape("paged_attention: out", out.size(), tokens, own * dim);
  detail::expect_shape("paged_attention: scratch", scratch.size(), 1,
                       attention_scratch(start + tokens));
  cache.check_table(table, start + tokens);
  bool const fits = cache.kv_heads() == heads.kv.size() && cache.head_dim() == dim &&
                    heads.kv.begin <= heads.query.begin / heads.group &&
                    (heads.query.end - 1) / heads.group < heads.kv.end;
  if (!fits) {
    throw error{errc::invalid_argument,
                "paged_attention: the cache does not hold the key/value heads of these query heads",
                {.remedy = "make the cache for the plan's Kv range of this rank"}};
  }
  std::size_t const pitch =
    scratch.size() / attention_heads_at_once / detail::lane_count * detail::lane_count;
  for (std::size_t t = 0; t < tokens; ++t) {
    std::size_t const n = start + t + 1;
    for (std::size_t h = 0; h < own;) {
      std::size_t const head = heads.query.begin + h;
      std::size_t const kv = head / heads.group - heads.kv.begin;
      std::size_t const in_group = heads.group - head % heads.group;
      std::size_t const left = own - h < in_group ? own - h : in_group;
      float const* const from = q.data() + (t * own + h) * dim;
      float* const to = out.data() + (t * own + h) * dim;
      if (left >= 4) {
        detail::attend<4>(cache, table, kv, n, from, to, scratch.data(), pitch);
        h += 4;
      } else if (left >= 2) {
        detail::attend<2>(cache, table, kv, n, from, to, scratch.data(), pitch);
        h += 2;
      } else {
        detail::attend<1>(cache, table, kv, n, from, to, scratch.data(), pitch);
        h += 1;
      }
    }
  }
}

}  // namespace tpx
