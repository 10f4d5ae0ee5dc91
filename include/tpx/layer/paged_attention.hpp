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

/// One query head of one token: attends to positions [0, n).
struct attention_row {
  float const* q;  // (head_dim)
  float* out;      // (head_dim)
  std::size_t n;
};

/// Scores of Rows rows that read one key/value head, of Blocks * 16 positions from `first` on:
/// q . k * scale, to scores (Rows, pitch).
template <std::size_t Rows, std::size_t Blocks, class Cache>
void attention_scores(Cache const& cache, std::uint32_t page, std::size_t kv, std::size_t first,
                      attention_row const* rows, float scale, float* scores, std::size_t pitch) {
  auto const* const keys = cache.keys(page, kv) + first % Cache::page_size;
  std::size_t const dim = cache.head_dim();
  lanes sums[Rows][Blocks] = {};
  for (std::size_t d = 0; d < dim; ++d) {
    for (std::size_t b = 0; b < Blocks; ++b) {
      lanes k;
      load(k, keys + d * Cache::page_size + b * lane_count);
      for (std::size_t r = 0; r < Rows; ++r) { sums[r][b] += k * rows[r].q[d]; }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t b = 0; b < Blocks; ++b) {
      store(scores + r * pitch + first + b * lane_count, sums[r][b] * scale);
    }
  }
}

/// The first n of `padded` scores become e^(score - the largest of them), the others 0; returns
/// their sum. `padded` is n rounded up to whole lanes, or more.
inline float exponentials(float* scores, std::size_t n, std::size_t padded) {
  for (std::size_t p = n; p < padded; ++p) { scores[p] = -std::numeric_limits<float>::infinity(); }
  lanes most;
  load(most, scores);
  for (std::size_t p = lane_count; p < n; p += lane_count) {
    lanes s;
    load(s, scores + p);
    most = select(s > most, s, most);
  }
  float const top = largest(most);
  lanes total = {};
  for (std::size_t p = 0; p < padded; p += lane_count) {
    lanes s;
    load(s, scores + p);
    s -= top;
    exp(s);
    store(scores + p, s);
    total += s;
  }
  return sum(total);
}

/// out[d ...] = sum over p < n of weights[p] v[p, d ...], divided by total, for Blocks * 16
/// columns from d on, of which the last block may be cut short by head_dim. weights: (Rows, pitch).
template <std::size_t Rows, std::size_t Blocks, class Cache>
void attention_values(Cache const& cache, std::span<std::uint32_t const> table, std::size_t kv,
                      std::size_t n, std::size_t d, float const* weights, std::size_t pitch,
                      float const* total, attention_row const* rows) {
  lanes sums[Rows][Blocks] = {};
  for (std::size_t first = 0; first < n; first += Cache::page_size) {
    auto const* values = cache.values(table[first / Cache::page_size], kv) + d;
    std::size_t const some = n - first < Cache::page_size ? n - first : Cache::page_size;
    for (std::size_t p = first; p < first + some; ++p, values += cache.value_pitch()) {
      for (std::size_t b = 0; b < Blocks; ++b) {
        lanes v;
        load(v, values + b * lane_count);
        for (std::size_t r = 0; r < Rows; ++r) { sums[r][b] += v * weights[r * pitch + p]; }
      }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t b = 0; b < Blocks; ++b) {
      std::size_t const at = d + b * lane_count;
      std::size_t const left = cache.head_dim() - at;
      store(rows[r].out + at, sums[r][b] / total[r], left < lane_count ? left : lane_count);
    }
  }
}

/// Rows rows in ascending order of n, which all read key/value head `kv`. A row that ends before
/// the last has weights of 0 from there on, which change no bit of its sums.
template <std::size_t Rows, class Cache>
void attend(Cache const& cache, std::span<std::uint32_t const> table, std::size_t kv,
            attention_row const* rows, float* scores, std::size_t pitch) {
  constexpr std::size_t blocks = Rows * 2 <= sums_at_once && Cache::page_size % 32 == 0 ? 2 : 1;
  constexpr std::size_t step = blocks * lane_count;
  std::size_t const n = rows[Rows - 1].n;
  std::size_t const padded = whole_lanes(n);
  float const scale = 1.0f / std::sqrt(static_cast<float>(cache.head_dim()));
  std::size_t p = 0;
  for (; p + step <= padded; p += step) {
    attention_scores<Rows, blocks>(cache, table[p / Cache::page_size], kv, p, rows, scale, scores,
                                   pitch);
  }
  for (; p < padded; p += lane_count) {
    attention_scores<Rows, 1>(cache, table[p / Cache::page_size], kv, p, rows, scale, scores,
                              pitch);
  }
  float total[Rows];
  for (std::size_t r = 0; r < Rows; ++r) {
    total[r] = exponentials(scores + r * pitch, rows[r].n, padded);
  }
  constexpr std::size_t columns = Rows * 2 <= sums_at_once ? 2 : 1;
  std::size_t const dim = cache.head_dim();
  std::size_t d = 0;
  for (; d + columns * lane_count <= whole_lanes(dim); d += columns * lane_count) {
    attention_values<Rows, columns>(cache, table, kv, n, d, scores, pitch, total, rows);
  }
  for (; d < dim; d += lane_count) {
    attention_values<Rows, 1>(cache, table, kv, n, d, scores, pitch, total, rows);
  }
}

/// Any number of rows, Rows at a time; the rest half as many at a time.
template <std::size_t Rows, class Cache>
void attend_rows(Cache const& cache, std::span<std::uint32_t const> table, std::size_t kv,
                 std::span<attention_row const> rows, float* scores, std::size_t pitch) {
  for (; rows.size() >= Rows; rows = rows.subspan(Rows)) {
    attend<Rows>(cache, table, kv, rows.data(), scores, pitch);
  }
  if constexpr (Rows > 1) { attend_rows<Rows / 2>(cache, table, kv, rows, scores, pitch); }
}

}  // namespace detail

/// Floats that paged_attention needs for sequences of up to `positions`.
[[nodiscard]] constexpr std::size_t attention_scratch(std::size_t positions) {
  return detail::sums_at_once * detail::whole_lanes(positions);
}

/// Causal attention of `tokens` new tokens, whose keys and values are in the cache already, over
/// all positions up to their own: out = softmax(q k / sqrt(head_dim)) v, head by head.
///
/// Shapes  q, out: (tokens, own query heads, head_dim), q with its positions turned in; token t is
///         at position start + t; scratch: attention_scratch(start + tokens) or more.
/// Order   fp32; the largest score is subtracted first. A token's bits depend neither on how many
///         tokens come at once nor on which heads a rank has.
/// Cost    2 head_dim products for each pair of position and head. The cache is read once for 8
///         pairs of a token and a query head that share a key/value head with AVX-512 (4
///         with AVX, else 2).
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
    scratch.size() / detail::sums_at_once / detail::lane_count * detail::lane_count;
  for (std::size_t first = 0; first < own;) {  // query heads that share a key/value head
    std::size_t const head = heads.query.begin + first;
    std::size_t const in_group = heads.group - head % heads.group;
    std::size_t const last = own - first < in_group ? own : first + in_group;
    std::size_t const kv = head / heads.group - heads.kv.begin;
    detail::attention_row rows[detail::sums_at_once];
    std::size_t waiting = 0;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t h = first; h < last; ++h) {
        std::size_t const at = (t * own + h) * dim;
        rows[waiting++] = {q.data() + at, out.data() + at, start + t + 1};
        if (waiting == detail::sums_at_once) {
          detail::attend<detail::sums_at_once>(cache, table, kv, rows, scratch.data(), pitch);
          waiting = 0;
        }
      }
    }
    detail::attend_rows<detail::sums_at_once / 2>(cache, table, kv, {rows, waiting}, scratch.data(),
                                                  pitch);
    first = last;
  }
}

}  // namespace tpx
