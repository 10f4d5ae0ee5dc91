// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "world.hpp"

#include <tpx/layer/attention.hpp>
#include <tpx/layer/embedding.hpp>
#include <tpx/layer/mlp.hpp>
#include <tpx/layer/rms_norm.hpp>
#include <tpx/layer/sharded_head.hpp>
#include <tpx/split_plan.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <complex>
#include <numeric>

namespace {

using namespace world;
using comm_t = communicator<PeerDirect, AllPairs, Cpu>;

constexpr int worlds[]{1, 2, 3, 4, 8};

std::vector<float> numbers(std::size_t n, unsigned salt) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(static_cast<int>(value<std::int8_t>(1, i, salt))) / 64.0f;
  }
  return x;
}

std::vector<bfloat16> weights(std::size_t n, unsigned salt) {
  auto const x = numbers(n, salt);
  std::vector<bfloat16> w(n);
  std::transform(x.begin(), x.end(), w.begin(), [](float v) { return bfloat16{v * 0.37f}; });
  return w;
}

double of(bfloat16 v) {
  return static_cast<double>(static_cast<float>(v));
}
double of(float v) {
  return static_cast<double>(v);
}

/// A matrix in double with its own arithmetic: what the layers are held against.
struct table {
  std::size_t rows, cols;
  std::vector<double> at;

  table(std::size_t r, std::size_t c) : rows{r}, cols{c}, at(r * c) {}
  template <class T>
  table(std::size_t r, std::size_t c, std::vector<T> const& from) : table{r, c} {
    std::transform(from.begin(), from.end(), at.begin(), [](T v) { return of(v); });
  }
  double& operator()(std::size_t r, std::size_t c) { return at[r * cols + c]; }
  double operator()(std::size_t r, std::size_t c) const { return at[r * cols + c]; }

  /// this (rows, cols) times the transpose of w (n, cols), column by column.
  [[nodiscard]] table times(table const& w, std::vector<float> const& bias = {}) const {
    table out{rows, w.rows};
    for (std::size_t n = 0; n < w.rows; ++n) {
      for (std::size_t m = 0; m < rows; ++m) { out(m, n) = bias.empty() ? 0 : of(bias[n]); }
      for (std::size_t c = cols; c-- > 0;) {
        for (std::size_t m = 0; m < rows; ++m) { out(m, n) += (*this)(m, c) * w(n, c); }
      }
    }
    return out;
  }
};

/// The largest distance, in units of 1 + |expected|.
template <class Got>
double distance(Got const& got, std::vector<double> const& expected) {
  double worst = got.size() >= expected.size() ? 0 : 1e300;
  for (std::size_t i = 0; i < expected.size() && worst < 1e300; ++i) {
    double const off = std::abs(of(got[i]) - expected[i]) / (1 + std::abs(expected[i]));
    worst = off <= worst ? worst : off;  // a NaN counts as far
    if (off != off) { worst = 1e300; }
  }
  return worst;
}

/// Cuts `total` into n ranges of different sizes; from three ranks on, the second has nothing.
std::vector<shard_range> uneven(std::size_t total, int n) {
  std::vector<shard_range> all;
  std::size_t at = 0;
  for (int r = 0; r < n; ++r) {
    std::size_t const left = total - at;
    std::size_t const size = r + 1 == n ? left : n > 2 && r == 1 ? 0 : std::min(left, left / 3 + 1);
    all.push_back({at, at + size});
    at += size;
  }
  return all;
}

struct vocab_plan {
  std::vector<shard_range> of_rank;
  template <class Split>
  [[nodiscard]] shard_range range(int rank) const {
    return of_rank[static_cast<std::size_t>(rank)];
  }
};

/// Columns `part` of a (rows, cols) matrix, as a view of it.
weight_view columns_of(std::vector<bfloat16> const& w, std::size_t rows, std::size_t cols,
                       shard_range part) {
  return {w.data() + part.begin, rows, part.size(), cols};
}
weight_view rows_of(std::vector<bfloat16> const& w, std::size_t cols, shard_range part) {
  return {w.data() + part.begin * cols, part.size(), cols};
}

std::vector<float> columns_of(std::vector<float> const& x, std::size_t rows, shard_range part) {
  std::size_t const cols = rows == 0 ? 0 : x.size() / rows;
  std::vector<float> out;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = part.begin; c < part.end; ++c) { out.push_back(x[r * cols + c]); }
  }
  return out;
}

std::span<float const> part_of(std::vector<float> const& x, shard_range part) {
  return std::span{x}.subspan(part.begin, part.size());
}

[[gnu::noinline]] bool throws_invalid(auto&& f) {
  try {
    f();
  } catch (tpx::error const& e) { return e.code() == errc::invalid_argument; }
  return false;
}

}  // namespace

TEST_CASE("matmul is the product at every size, and leaves what is beside its output alone") {
  for (std::size_t rows : {0, 1, 3, 4, 17}) {
    for (std::size_t cols : {0, 1, 15, 16, 17, 100}) {
      auto const w = weights(rows * (cols + 3), 1);
      weight_view const view{w.data(), rows, cols, cols + 3};
      table exact{rows, cols};
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) { exact(r, c) = of(w[r * (cols + 3) + c]); }
      }
      auto const bias = numbers(rows, 2);
      for (std::size_t tokens : {0, 1, 2, 5, 8, 15}) {
        auto const x = numbers(tokens * cols, 3);
        std::vector<float> out(tokens * rows + 1, 77.0f);
        matmul(view, x, out, tokens, bias);
        INFO(rows << " x " << cols << ", " << tokens << " tokens");
        CHECK(distance(out, table{tokens, cols, x}.times(exact, bias).at) < 1e-5);
        CHECK(out.back() == 77.0f);
      }
    }
  }
}

TEST_CASE("matmul's bits depend neither on the number of tokens nor on which rows are asked for") {
  std::size_t const rows = 23, cols = 83, tokens = 21;
  auto const w = weights(rows * cols, 4);
  auto const x = numbers(tokens * cols, 5);
  std::vector<float> whole(tokens * rows);
  matmul({w.data(), rows, cols}, x, whole, tokens);
  bool same = true;
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t r = 0; r < rows; ++r) {
      float one = 0;
      matmul({w.data() + r * cols, 1, cols}, std::span{x}.subspan(t * cols), {&one, 1}, 1);
      same = same && same_bits(one, whole[t * rows + r]);
    }
  }
  CHECK(same);
}

TEST_CASE("the lanes' exponential is within 2 units in the last place") {
  double worst = 0;
  for (float x = -86.9f; x < 88.0f; x += 0.00131f) {
    tpx::detail::lanes v = x;
    tpx::detail::exp(v);
    double const exact = std::exp(of(x));
    double const unit = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(of(v[5]) - exact) / unit);
  }
  CHECK(worst < 2);
  float const far[16]{0, -std::numeric_limits<float>::infinity(), 1000, -1000};
  tpx::detail::lanes v;
  tpx::detail::load(v, far);
  tpx::detail::exp(v);
  CHECK(v[0] == 1.0f);
  CHECK(v[1] == 0.0f);
  CHECK((v[2] > 1e38f && v[2] < std::numeric_limits<float>::infinity()));
  CHECK(v[3] == 0.0f);
}

TEST_CASE("RMSNorm brings each token's mean square to one, also in place") {
  for (std::size_t hidden : {1, 7, 16, 50, 256}) {
    std::size_t const tokens = 3;
    auto x = numbers(tokens * hidden, 6);
    auto const weight = numbers(hidden, 7);
    std::vector<double> expected;
    for (std::size_t t = 0; t < tokens; ++t) {
      double squares = 0;
      for (std::size_t i = 0; i < hidden; ++i) { squares += std::pow(of(x[t * hidden + i]), 2); }
      double const root = std::sqrt(squares / static_cast<double>(hidden) + 1e-5);
      for (std::size_t i = 0; i < hidden; ++i) {
        expected.push_back(of(x[t * hidden + i]) / root * of(weight[i]));
      }
    }
    rms_norm{weight, 1e-5f}(x, x, tokens);
    CHECK(distance(x, expected) < 1e-6);
  }
}

TEST_CASE("RoPE turns pairs as complex numbers, by the position, and keeps lengths") {
  std::size_t const dim = 6, heads = 3, tokens = 4, start = 5;
  std::vector<double> const frequencies{1.0, 0.1, 0.01};
  rope const turn{frequencies, start + tokens};
  auto x = numbers(tokens * heads * dim, 8);
  std::vector<double> expected(x.size());
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t i = 0; i < dim / 2; ++i) {
        std::size_t const at = (t * heads + h) * dim + i;
        auto const z = std::complex{of(x[at]), of(x[at + dim / 2])} *
                       std::polar(1.0, static_cast<double>(start + t) * frequencies[i]);
        expected[at] = z.real();
        expected[at + dim / 2] = z.imag();
      }
    }
  }
  turn(x, heads, start, tokens);
  CHECK(distance(x, expected) < 1e-6);
  CHECK(throws_invalid([&] { turn(x, heads, start + 1, tokens); }));
}

TEST_CASE("column-parallel and row-parallel layers together are the two whole matrices") {
  std::size_t const hidden = 37, inner = 41, tokens = 5;
  auto const a = weights(inner * hidden, 9);
  auto const b = weights(hidden * inner, 10);
  auto const a_bias = numbers(inner, 11);
  auto const b_bias = numbers(hidden, 12);
  auto const x = numbers(tokens * hidden, 13);
  auto const residual = numbers(tokens * hidden, 14);
  table const middle = table{tokens, hidden, x}.times({inner, hidden, a}, a_bias);
  table sum = middle.times({hidden, inner, b}, b_bias);
  table const plain = sum;
  for (std::size_t i = 0; i < sum.at.size(); ++i) { sum.at[i] += of(residual[i]); }
  for (int n : worlds) {
    auto const cuts = uneven(inner, n);
    notes found;
    std::vector<std::vector<float>> streams(static_cast<std::size_t>(n));
    on_ranks(n, [&](group& g) {
      comm_t comm{g};
      auto const mine = cuts[static_cast<std::size_t>(g.rank())];
      column_parallel<split::Id> const first{rows_of(a, hidden, mine), part_of(a_bias, mine)};
      row_parallel<split::Id> const second{columns_of(b, hidden, inner, mine), b_bias};
      std::vector<float> own(tokens * mine.size()), out(tokens * hidden), work(tokens * hidden);
      first(x, own, tokens);
      second(comm, own, out, tokens);
      if (!(distance(out, plain.at) < 1e-5)) { found.add("row_parallel is off"); }
      auto& stream = streams[static_cast<std::size_t>(g.rank())];
      stream = residual;
      second.add_to(comm, own, stream, work, tokens);
      if (!(distance(stream, sum.at) < 1e-5)) { found.add("the residual is off"); }
    });
    INFO(n << " ranks");
    CHECK(found.all() == "");
    for (auto const& stream : streams) { CHECK(stream == streams[0]); }
  }
}

TEST_CASE("an embedding gives each token its row, whole or cut by vocabulary") {
  std::size_t const vocab = 50, hidden = 19;
  auto const w = weights(vocab * hidden, 15);
  std::vector<std::int32_t> const tokens{0, 49, 7, 7, 25};
  std::vector<float> expected;
  for (auto t : tokens) {
    for (std::size_t i = 0; i < hidden; ++i) {
      expected.push_back(static_cast<float>(w[static_cast<std::size_t>(t) * hidden + i]));
    }
  }
  for (int n : worlds) {
    auto const cuts = uneven(vocab, n);
    notes found;
    on_ranks(n, [&](group& g) {
      comm_t comm{g};
      auto const mine = cuts[static_cast<std::size_t>(g.rank())];
      embedding<split::Vc> const cut{rows_of(w, hidden, mine), mine, vocab};
      embedding<split::All> const whole{{w.data(), vocab, hidden}, {0, vocab}, vocab};
      std::vector<float> out(expected.size()), other(expected.size());
      cut(comm, tokens, out);
      auto const sent = comm.stats().calls;
      whole(comm, tokens, other);
      if (out != expected) { found.add("cut: wrong rows"); }
      if (other != expected) { found.add("whole: wrong rows"); }
      if (comm.stats().calls != sent) { found.add("whole: something was sent"); }
      for (std::int32_t bad : {-1, 50}) {
        if (!throws_invalid([&] { cut(comm, std::vector{bad}, out); })) {
          found.add("a token outside the vocabulary was taken");
        }
      }
    });
    INFO(n << " ranks");
    CHECK(found.all() == "");
  }
}

namespace {

/// Causal attention in double over whole (tokens, heads, dim) arrays, one pair at a time.
std::vector<double> attention_oracle(std::size_t tokens, std::size_t heads, std::size_t group,
                                     std::size_t dim, std::vector<double> const& q,
                                     std::vector<double> const& k, std::vector<double> const& v) {
  std::size_t const kv_heads = heads / group;
  std::vector<double> out(q.size());
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t t = 0; t < tokens; ++t) {
      std::vector<double> p(t + 1);
      for (std::size_t s = 0; s <= t; ++s) {
        for (std::size_t i = 0; i < dim; ++i) {
          p[s] += q[(t * heads + h) * dim + i] * k[(s * kv_heads + h / group) * dim + i];
        }
        p[s] = std::exp(p[s] / std::sqrt(static_cast<double>(dim)));
      }
      double const total = std::accumulate(p.begin(), p.end(), 0.0);
      for (std::size_t s = 0; s <= t; ++s) {
        for (std::size_t i = 0; i < dim; ++i) {
          out[(t * heads + h) * dim + i] += p[s] / total * v[(s * kv_heads + h / group) * dim + i];
        }
      }
    }
  }
  return out;
}

std::vector<double> doubles(std::vector<float> const& x) {
  return {x.begin(), x.end()};
}

/// A rank's heads of (tokens, heads, dim).
std::vector<float> heads_of(std::vector<float> const& x, std::size_t tokens, std::size_t dim,
                            shard_range heads) {
  return columns_of(x, tokens, heads.columns(dim));
}

/// The largest distance from the oracle when tokens come in pieces of these sizes, for a rank that
/// has query heads `own`.
template <class Cache>
double attention_distance(std::size_t heads, std::size_t group, std::size_t dim, shard_range own,
                          std::vector<std::size_t> const& pieces) {
  std::size_t const tokens = std::accumulate(pieces.begin(), pieces.end(), std::size_t{0});
  auto const q = numbers(tokens * heads * dim, 16);
  auto const k = numbers(tokens * heads / group * dim, 17);
  auto const v = numbers(tokens * heads / group * dim, 18);
  auto const exact =
    attention_oracle(tokens, heads, group, dim, doubles(q), doubles(k), doubles(v));
  shard_range const kv{own.begin / group, (own.end - 1) / group + 1};
  head_range const range{own, kv, group, dim};
  std::size_t const pages = Cache::pages_needed(tokens);
  Cache cache{2 * pages, kv.size(), dim};
  std::vector<std::uint32_t> where(pages);  // every other page, from the last on
  for (std::size_t i = 0; i < pages; ++i) {
    where[i] = static_cast<std::uint32_t>(2 * (pages - i) - 1);
  }
  std::vector<float> scratch(attention_scratch(tokens));
  double worst = 0;
  std::size_t start = 0;
  for (std::size_t n : pieces) {
    auto const slice = [&](std::vector<float> const& x, std::size_t width, shard_range part) {
      std::vector<float> const some(x.begin() + static_cast<std::ptrdiff_t>(start * width),
                                    x.begin() + static_cast<std::ptrdiff_t>((start + n) * width));
      return heads_of(some, n, dim, part);
    };
    cache.put(where, start, n, slice(k, heads / group * dim, kv),
              slice(v, heads / group * dim, kv));
    std::vector<float> out(n * own.size() * dim);
    paged_attention(cache, where, range, start, n, slice(q, heads * dim, own), out, scratch);
    std::vector<double> expected;
    for (std::size_t t = start; t < start + n; ++t) {
      auto const first = exact.begin() + static_cast<std::ptrdiff_t>((t * heads + own.begin) * dim);
      expected.insert(expected.end(), first, first + static_cast<std::ptrdiff_t>(own.size() * dim));
    }
    worst = std::max(worst, distance(out, expected));
    start += n;
  }
  return worst;
}

}  // namespace

TEST_CASE("attention over pages is attention over everything before, in one piece or many") {
  using small = paged_cache<16, float>;
  using large = paged_cache<64, float>;
  using rounded = paged_cache<32, bfloat16>;
  std::vector<std::size_t> const once{70}, many{1, 1, 15, 1, 30, 1, 1, 20}, one{1};
  CHECK(attention_distance<small>(8, 2, 20, {0, 8}, once) < 1e-5);
  CHECK(attention_distance<small>(8, 2, 20, {0, 8}, many) < 1e-5);
  CHECK(attention_distance<large>(6, 6, 64, {0, 6}, many) < 1e-5);    // one key/value head
  CHECK(attention_distance<large>(7, 1, 5, {2, 5}, many) < 1e-5);     // a head each, three of them
  CHECK(attention_distance<small>(12, 4, 16, {5, 7}, many) < 1e-5);   // inside one group
  CHECK(attention_distance<small>(12, 4, 16, {4, 12}, once) < 1e-5);  // two whole groups
  CHECK(attention_distance<small>(2, 2, 8, {1, 2}, one) < 1e-5);
  CHECK(attention_distance<rounded>(8, 2, 64, {0, 8}, many) < 2e-2);  // keys and values of 8 bits
}

TEST_CASE("a paged cache refuses places it does not have, before it writes") {
  paged_cache<16> cache{3, 1, 4};
  auto const k = numbers(4, 19);
  std::vector<std::uint32_t> table{2};
  table.push_back(3);
  CHECK(throws_invalid([&] { cache.put(table, 32, 1, k, k); }));  // no third page
  CHECK(throws_invalid([&] { cache.put(table, 16, 1, k, k); }));  // page 3 of 3
  CHECK(throws_invalid([&] { cache.put(table, 0, 2, k, k); }));   // k is too short
  CHECK(throws_invalid([&] { cache.check_table(std::span{table}.first(1), 17); }));
  CHECK(cache.keys(2, 0)[0] == 0.0f);
  cache.put(table, 5, 1, k, k);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(cache.keys(2, 0)[i * 16 + 5] == k[i]);
    CHECK(cache.values(2, 0)[5 * cache.value_pitch() + i] == k[i]);
  }
}

TEST_CASE("copied pages hold the first positions of others, in the same cache or in another") {
  std::size_t const dim = 20, heads = 2;
  paged_cache<16> cache{3, heads, dim}, tier{2, heads, dim}, narrow{2, 1, dim};
  auto const k = numbers(16 * heads * dim, 37);
  auto const v = numbers(16 * heads * dim, 38);
  std::vector<std::uint32_t> const table{1};
  cache.put(table, 0, 16, k, v);
  /// Positions of `page`, from the first, that are those of the sequence; the others must be empty.
  auto const same = [&](paged_cache<16> const& in, std::uint32_t page) {
    std::size_t count = 0;
    for (std::size_t t = 0; t < 16; ++t) {
      bool full = true, empty = true;
      for (std::size_t h = 0; h < heads; ++h) {
        for (std::size_t i = 0; i < dim; ++i) {
          std::size_t const at = (t * heads + h) * dim + i;
          float const key = in.keys(page, h)[i * 16 + t];
          float const value = in.values(page, h)[t * in.value_pitch() + i];
          full = full && key == k[at] && value == v[at];
          empty = empty && key == 0 && value == 0;
        }
      }
      if (full && count == t) { ++count; }
      if (!full && !empty) { return std::size_t{99}; }
    }
    return count;
  };
  cache.copy(1, cache, 2, 7);
  CHECK(same(cache, 2) == 7);
  CHECK(same(cache, 0) == 0);
  cache.copy(1, tier, 0, 16);
  tier.copy(0, cache, 0, 16);
  CHECK(same(cache, 0) == 16);
  cache.copy(1, cache, 1, 16);
  CHECK(same(cache, 1) == 16);
  CHECK(throws_invalid([&] { cache.copy(3, cache, 0, 1); }));
  CHECK(throws_invalid([&] { cache.copy(0, tier, 2, 1); }));
  CHECK(throws_invalid([&] { cache.copy(0, cache, 1, 17); }));
  CHECK(throws_invalid([&] { cache.copy(0, narrow, 1, 1); }));
}

TEST_CASE("an attention layer adds the same on any number of ranks, with copied heads and none") {
  std::size_t const hidden = 24, dim = 8, tokens = 11;
  std::pair<std::size_t, std::size_t> const shapes[]{{8, 2}, {4, 4}, {6, 3}};
  for (auto const& [heads, kv_heads] : shapes) {
    std::size_t const share = heads / kv_heads;
    auto const wq = weights(heads * dim * hidden, 20);
    auto const wk = weights(kv_heads * dim * hidden, 21);
    auto const wv = weights(kv_heads * dim * hidden, 22);
    auto const wo = weights(hidden * heads * dim, 23);
    auto const bq = numbers(heads * dim, 24);
    auto const bk = numbers(kv_heads * dim, 25);
    auto const bv = numbers(kv_heads * dim, 26);
    auto const x = numbers(tokens * hidden, 27);
    auto const residual = numbers(tokens * hidden, 28);
    std::vector<double> const frequencies{1, 0.3, 0.1, 0.03};

    table const in{tokens, hidden, x};
    auto q = in.times({heads * dim, hidden, wq}, bq);
    auto k = in.times({kv_heads * dim, hidden, wk}, bk);
    auto const v = in.times({kv_heads * dim, hidden, wv}, bv);
    for (auto* const each : {&q, &k}) {
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t c = 0; c < each->cols; ++c) {
          if (c % dim >= dim / 2) { continue; }
          auto const z = std::complex{(*each)(t, c), (*each)(t, c + dim / 2)} *
                         std::polar(1.0, static_cast<double>(t) * frequencies[c % dim]);
          (*each)(t, c) = z.real();
          (*each)(t, c + dim / 2) = z.imag();
        }
      }
    }
    table mixed{tokens, heads * dim};
    mixed.at = attention_oracle(tokens, heads, share, dim, q.at, k.at, v.at);
    table expected = mixed.times({hidden, heads * dim, wo});
    for (std::size_t i = 0; i < expected.at.size(); ++i) { expected.at[i] += of(residual[i]); }

    model_shape const shape{.layers = 1,
                            .hidden = hidden,
                            .query_heads = heads,
                            .kv_heads = kv_heads,
                            .head_dim = dim,
                            .intermediate = 8,
                            .vocab = 8};
    bool copied = false, without = false;
    for (int n : worlds) {
      auto const plan = split_plan::even(shape, n);
      copied = copied || plan.replicated();
      without = without || plan.owners<split::Q>() < n;
      notes found;
      on_ranks(n, [&](group& g) {
        comm_t comm{g};
        head_range const range{plan.range<split::Q>(g.rank()), plan.range<split::Kv>(g.rank()),
                               share, dim};
        auto const mine = range.query.columns(dim);
        auto const kept = range.kv.columns(dim);
        attention const layer{.heads = range,
                              .q = {rows_of(wq, hidden, mine), part_of(bq, mine)},
                              .k = {rows_of(wk, hidden, kept), part_of(bk, kept)},
                              .v = {rows_of(wv, hidden, kept), part_of(bv, kept)},
                              .o = {columns_of(wo, hidden, heads * dim, mine)}};
        paged_cache<16> cache{1, range.kv.size(), dim};
        rope const turn{frequencies, tokens};
        std::vector<std::uint32_t> const pages{0};
        workspace memory{layer.floats_needed(tokens, tokens)};
        auto stream = residual;
        auto const rows = [&](auto& from, std::size_t first, std::size_t some) {
          return std::span{from}.subspan(first * hidden, some * hidden);
        };
        auto const step = [&](std::initializer_list<sequence_view> parts, std::size_t first,
                              std::size_t some) {
          layer.add_to(comm, cache, turn, {parts.begin(), parts.size()}, rows(x, first, some),
                       rows(stream, first, some), memory);
        };
        step({{pages, 0, 4}, {pages, 4, 5}}, 0, 9);
        for (std::size_t t = 9; t < tokens; ++t) { step({{pages, t, 1}}, t, 1); }
        double const off = distance(stream, expected.at);
        if (!(off < 1e-4)) { found.add("rank is off by " + std::to_string(off)); }
      });
      INFO(n << " ranks, " << heads << " heads, " << kv_heads << " key/value heads");
      CHECK(found.all() == "");
    }
    CHECK((copied || without));
  }
}

TEST_CASE("an MLP adds down(silu(gate) * up) on any number of ranks") {
  std::size_t const hidden = 21, inner = 45, tokens = 6;
  auto const wg = weights(inner * hidden, 29);
  auto const wu = weights(inner * hidden, 30);
  auto const wd = weights(hidden * inner, 31);
  auto const x = numbers(tokens * hidden, 32);
  auto const residual = numbers(tokens * hidden, 33);
  table const in{tokens, hidden, x};
  auto gated = in.times({inner, hidden, wg});
  auto const up = in.times({inner, hidden, wu});
  for (std::size_t i = 0; i < gated.at.size(); ++i) {
    gated.at[i] = gated.at[i] / (1 + std::exp(-gated.at[i])) * up.at[i];
  }
  auto expected = gated.times({hidden, inner, wd});
  for (std::size_t i = 0; i < expected.at.size(); ++i) { expected.at[i] += of(residual[i]); }
  for (int n : worlds) {
    auto const cuts = uneven(inner, n);
    notes found;
    on_ranks(n, [&](group& g) {
      comm_t comm{g};
      auto const mine = cuts[static_cast<std::size_t>(g.rank())];
      mlp const layer{{rows_of(wg, hidden, mine)},
                      {rows_of(wu, hidden, mine)},
                      {columns_of(wd, hidden, inner, mine)}};
      workspace memory{layer.floats_needed(tokens)};
      auto stream = residual;
      layer.add_to(comm, x, stream, tokens, memory);
      if (!(distance(stream, expected.at) < 1e-5)) { found.add("off"); }
    });
    INFO(n << " ranks");
    CHECK(found.all() == "");
  }
}

TEST_CASE("a cut vocabulary gives the same logits, best tokens and likelihoods as a whole one") {
  std::size_t const vocab = 67, hidden = 33, tokens = 4;
  auto w = weights(vocab * hidden, 34);
  // Token 60 is token 11's twin, so their logits tie; ranks must agree on the lower.
  std::copy_n(w.begin() + 11 * hidden, hidden, w.begin() + 60 * hidden);
  auto x = numbers(tokens * hidden, 35);
  for (std::size_t i = 0; i < hidden; ++i) {  // the first token wants 11 and its twin
    x[i] = static_cast<float>(w[11 * hidden + i]) * 9.0f;
  }
  auto const exact = table{tokens, hidden, x}.times({vocab, hidden, w});
  std::vector<std::int32_t> const wanted{11, 0, 66, 30};
  for (int n : worlds) {
    vocab_plan const plan{uneven(vocab, n)};
    notes found;
    on_ranks(n, [&](group& g) {
      comm_t comm{g};
      auto const mine = plan.range<split::Vc>(g.rank());
      sharded_head const head{{rows_of(w, hidden, mine)}, mine};
      std::vector<float> work(tokens * mine.size()), all(tokens * vocab);
      head.gather(comm, plan, x, work, all, tokens);
      if (!(distance(all, exact.at) < 1e-5)) { found.add("logits are off"); }
      std::vector<scored_token> best(tokens);
      head.greedy(comm, x, work, best);
      std::vector<softmax_part> parts(tokens);
      log_likelihood(comm, work, mine, wanted, parts);
      for (std::size_t t = 0; t < tokens; ++t) {
        auto const* const row = all.data() + t * vocab;
        auto const top = std::max_element(row, row + vocab) - row;
        if (best[t].token != top || best[t].logit != row[top]) { found.add("not the best token"); }
        double sum = 0;
        for (std::size_t i = 0; i < vocab; ++i) { sum += std::exp(exact(t, i)); }
        double const loss = std::log(sum) - exact(t, static_cast<std::size_t>(wanted[t]));
        if (!(std::abs(parts[t].negative_log() - loss) < 1e-5 * (1 + loss))) {
          found.add("likelihood is off");
        }
      }
      if (best[0].token != 11) { found.add("a tie did not go to the lowest token"); }
    });
    INFO(n << " ranks");
    CHECK(found.all() == "");
  }
}

TEST_CASE("argmax takes numbers before NaN, and says so when there are none") {
  float const nan = std::numeric_limits<float>::quiet_NaN();
  float const low = -std::numeric_limits<float>::infinity();
  std::vector<std::vector<float>> const rows{
    {nan, nan, 3, nan}, {low, low, low, low}, {nan, low, nan, nan}, {nan, nan, nan, nan}};
  std::vector<std::int32_t> const expected{2, 0, 1, scored_token::none};
  for (int n : {1, 2, 3}) {
    auto const cuts = uneven(4, n);
    notes found;
    on_ranks(n, [&](group& g) {
      comm_t comm{g};
      auto const mine = cuts[static_cast<std::size_t>(g.rank())];
      std::vector<float> own;
      for (auto const& row : rows) {
        own.insert(own.end(), row.begin() + static_cast<std::ptrdiff_t>(mine.begin),
                   row.begin() + static_cast<std::ptrdiff_t>(mine.end));
      }
      std::vector<scored_token> best(rows.size());
      argmax(comm, own, mine, best);
      for (std::size_t r = 0; r < rows.size(); ++r) {
        if (best[r].token != expected[r]) { found.add("row " + std::to_string(r)); }
      }
    });
    INFO(n << " ranks");
    CHECK(found.all() == "");
  }
}

TEST_CASE("a workspace hands out aligned arrays, takes them back, and says when it is too small") {
  workspace memory{100};
  float* first = nullptr;
  {
    workspace::frame frame{memory};
    auto const a = frame.take(3);
    auto const b = frame.take(33);
    first = a.data();
    CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % 64 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 64 == 0);
    CHECK(b.data() >= a.data() + 3);
    errc code = errc::ok;
    try {
      static_cast<void>(frame.take(100));
    } catch (tpx::error const& e) { code = e.code(); }
    CHECK(code == errc::out_of_memory);
  }
  workspace::frame again{memory};
  CHECK(again.take(100).data() == first);
}

TEST_CASE("layers refuse arrays that are too short") {
  auto const w = weights(12, 36);
  weight_view const view{w.data(), 3, 4};
  std::vector<float> x(8), out(6), few(5);
  CHECK(throws_invalid([&] { matmul(view, std::span{x}.first(7), out, 2); }));
  CHECK(throws_invalid([&] { matmul(view, x, few, 2); }));
  CHECK(throws_invalid([&] { matmul(view, x, out, 2, std::span{few}.first(2)); }));
  CHECK(throws_invalid([&] { rms_norm{few, 1e-5f}(x, out, 2); }));
  CHECK(throws_invalid([&] { silu_times(out, few); }));
}
