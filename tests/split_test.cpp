// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/error.hpp>
#include <tpx/split.hpp>
#include <tpx/split_plan.hpp>
#include <tpx/split_report.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace split = tpx::split;
using Catch::Matchers::ContainsSubstring;
using tpx::device_budget;
using tpx::model_shape;
using tpx::shard_range;
using tpx::split_options;
using tpx::split_plan;

namespace {

constexpr std::size_t GiB = std::size_t{1} << 30;

constexpr model_shape llama_8b{.layers = 32,
                               .hidden = 4096,
                               .query_heads = 32,
                               .kv_heads = 8,
                               .head_dim = 128,
                               .intermediate = 14336,
                               .vocab = 128256};
constexpr model_shape tiny{.layers = 4,
                           .hidden = 256,
                           .query_heads = 8,
                           .kv_heads = 8,
                           .head_dim = 32,
                           .intermediate = 672,
                           .vocab = 2048};
constexpr split_options tiny_options{.tokens = 512, .id_quantum = 1};

constexpr std::size_t index(int rank) {
  return static_cast<std::size_t>(rank);
}

constexpr model_shape with_heads(std::size_t query, std::size_t kv) {
  model_shape shape = llama_8b;
  shape.query_heads = query;
  shape.kv_heads = kv;
  return shape;
}

/// Whether the ranks' ranges go over 0 .. extent once, in order, and break at quanta alone.
template <class Kind>
constexpr bool tiles(split_plan const& plan, std::size_t extent, std::size_t quantum) {
  std::size_t next = 0;
  for (int rank = 0; rank < plan.world(); ++rank) {
    shard_range const mine = plan.range<Kind>(rank);
    for (std::size_t unit = mine.begin; unit < mine.end; ++unit) {
      if (unit != next++) { return false; }
    }
    if (mine.begin > extent || (mine.begin % quantum != 0 && mine.begin != extent)) {
      return false;
    }
  }
  return next == extent;
}

/// Whether every query head's rank has its key/value head, and no rank has one for nothing.
constexpr bool in_step(split_plan const& plan) {
  std::size_t const group = plan.shape().query_heads / plan.shape().kv_heads;
  for (int rank = 0; rank < plan.world(); ++rank) {
    shard_range const q = plan.range<split::Q>(rank);
    shard_range const kv = plan.range<split::Kv>(rank);
    for (std::size_t head = 0; head < plan.shape().kv_heads; ++head) {
      bool needed = false;
      for (std::size_t i = head * group; i < (head + 1) * group; ++i) {
        needed = needed || q.contains(i);
      }
      if (needed != kv.contains(head)) { return false; }
    }
    if (kv.size() > 1 && q.size() != kv.size() * group) { return false; }
  }
  return true;
}

constexpr bool sound(split_plan const& plan) {
  model_shape const& s = plan.shape();
  split_options const& o = plan.options();
  return tiles<split::Q>(plan, s.query_heads, 1) &&
         tiles<split::Id>(plan, s.intermediate, o.id_quantum) &&
         tiles<split::Vc>(plan, s.vocab, o.vc_quantum) &&
         tiles<split::Rs>(plan, s.hidden, o.rs_quantum) && in_step(plan);
}

constexpr bool sound_for_all_worlds(model_shape const& shape, split_options const& options) {
  for (int world = 1; world <= 16; ++world) {
    if (!sound(split_plan::even(shape, world, options))) { return false; }
  }
  return true;
}

constexpr model_shape toy(std::size_t query, std::size_t kv) {
  return {.layers = 2,
          .hidden = 96,
          .query_heads = query,
          .kv_heads = kv,
          .head_dim = 8,
          .intermediate = 100,
          .vocab = 130};
}
constexpr split_options toy_options{.id_quantum = 8};

static_assert(sound_for_all_worlds(toy(8, 8), toy_options));
static_assert(sound_for_all_worlds(toy(8, 2), toy_options));
static_assert(sound_for_all_worlds(toy(12, 3), toy_options));
static_assert(sound_for_all_worlds(toy(7, 1), toy_options));
static_assert(sound_for_all_worlds(toy(1, 1), toy_options));

constexpr bool evenly_for_all_worlds() {
  for (int world = 1; world <= 16; ++world) {
    split_plan const plan = split_plan::even(toy(48, 48), world, {.id_quantum = 1});
    std::size_t least = 48, most = 0;
    for (int rank = 0; rank < world; ++rank) {
      std::size_t const n = plan.range<split::Kv>(rank).size();
      least = n < least ? n : least;
      most = n > most ? n : most;
    }
    if (most - least > 1 || plan.owners<split::Kv>() != world || plan.replicated()) {
      return false;
    }
    if (plan.even<split::Kv>() != (48 % world == 0)) { return false; }
  }
  return true;
}
static_assert(evenly_for_all_worlds());

constexpr split_plan eight_on_two = split_plan::even(toy(8, 2), 8);
static_assert(eight_on_two.replicated());
static_assert(eight_on_two.range<split::Q>(5) == shard_range{5, 6});
static_assert(eight_on_two.range<split::Kv>(3) == shard_range{0, 1});
static_assert(eight_on_two.range<split::Kv>(4) == shard_range{1, 2});
static_assert(shard_range{3, 5}.columns(128) == shard_range{384, 640});

/// A random shape, options and budgets; every draw is a function of the seed.
struct draw {
  explicit draw(unsigned seed) : random{seed} {
    world = upto(1, 16);
    std::size_t const kv = pick(1, 12);
    std::size_t const group = pick(1, 3) == 1 ? 1 : pick(1, 9);
    shape = {.layers = pick(1, 8),
             .hidden = pick(1, 600),
             .query_heads = kv * group,
             .kv_heads = kv,
             .head_dim = pick(1, 64),
             .intermediate = pick(1, 4000),
             .vocab = pick(1, 5000),
             .tied_embeddings = pick(0, 1) == 1,
             .attention_bias = pick(0, 1) == 1,
             .embedding_on_host = pick(0, 1) == 1};
    options = {.tokens = pick(0, 3000),
               .step_tokens = pick(1, 4),
               .id_quantum = std::array<std::size_t, 4>{1, 32, 100, 128}[pick(0, 3)],
               .vc_quantum = std::array<std::size_t, 3>{1, 32, 64}[pick(0, 2)],
               .rs_quantum = std::array<std::size_t, 3>{1, 32, 128}[pick(0, 2)],
               .communicator_bytes = pick(0, 5000)};
    for (int r = 0; r < world; ++r) {
      budgets.push_back({.read_gbps = static_cast<double>(pick(1, 40))});
    }
  }

  std::size_t pick(std::size_t low, std::size_t high) { return low + random() % (high - low + 1); }
  int upto(int low, int high) { return static_cast<int>(pick(index(low), index(high))); }

  /// Bytes that a rank's budget must have before it can take a shard.
  [[nodiscard]] double fixed() const {
    return shape.replicated_bytes() + static_cast<double>(options.communicator_bytes);
  }

  /// All that is split, in bytes.
  [[nodiscard]] double split_bytes() const {
    auto const n = [](std::size_t value) { return static_cast<double>(value); };
    double const kv = shape.kv_head_bytes() + n(options.tokens) * shape.kv_head_cache_bytes();
    return n(shape.query_heads) * shape.q_head_bytes() + n(shape.kv_heads) * kv +
           n(shape.intermediate) * shape.id_column_bytes() +
           n(shape.vocab) * shape.vc_column_held_bytes();
  }

  /// One unit of each kind, in bytes: what rounding can put on a rank at most.
  [[nodiscard]] double rounding() const {
    auto const n = [](std::size_t value) { return static_cast<double>(value); };
    return n(shape.group()) * shape.q_head_bytes() + shape.kv_head_bytes() +
           n(options.tokens) * shape.kv_head_cache_bytes() +
           n(options.id_quantum) * shape.id_column_bytes() +
           n(options.vc_quantum) * shape.vc_column_held_bytes();
  }

  /// Gives every rank `shares[r] / sum` of `bytes` over what it must hold anyway.
  void give_memory(std::vector<double> const& parts, double bytes) {
    double total = 0;
    for (double const part : parts) { total += part; }
    for (std::size_t r = 0; r < budgets.size(); ++r) {
      budgets[r].memory =
        parts[r] == 0 ? 0 : static_cast<std::size_t>(fixed() + bytes * parts[r] / total) + 1;
    }
  }

  std::minstd_rand random;
  int world = 1;
  model_shape shape;
  split_options options;
  std::vector<device_budget> budgets;
};

std::string message_of(auto const& f) {
  try {
    f();
  } catch (tpx::error const& e) {
    CHECK(e.code() == tpx::errc::invalid_argument);
    CHECK_FALSE(e.remedy().empty());
    return e.what();
  }
  return "nothing was thrown";
}

double held(tpx::split_report const& report, int rank) {
  tpx::rank_holding const& h = report.holding(rank);
  return static_cast<double>(h.weights + h.cache);
}

}  // namespace

TEST_CASE("every plan covers each axis once, at quanta, with queries beside their keys",
          "[split]") {
  for (unsigned seed = 1; seed <= 6000; ++seed) {
    draw d{seed};
    if (seed % 3 != 0) {
      std::vector<double> parts(d.budgets.size());
      for (double& part : parts) { part = static_cast<double>(d.pick(0, 9)); }
      parts[d.pick(0, parts.size() - 1)] = 5;
      d.give_memory(parts, d.split_bytes() * static_cast<double>(d.pick(1, 30)) / 10);
    }
    for (device_budget& b : d.budgets) {
      if (seed % 2 == 0) { b.link_gbps = static_cast<double>(d.pick(0, 20)) / 10; }
    }
    INFO("seed " << seed);
    split_plan const plan = split_plan::fit(d.shape, d.budgets, d.options);
    REQUIRE(sound(plan));
    REQUIRE(plan == split_plan::fit(d.shape, d.budgets, d.options));
    for (int rank = 0; rank < d.world; ++rank) {
      if (d.budgets[index(rank)].memory != 0) { continue; }
      REQUIRE(plan.range<split::Kv>(rank).empty());
      REQUIRE(plan.range<split::Q>(rank).empty());
      REQUIRE(plan.range<split::Id>(rank).empty());
      REQUIRE(plan.range<split::Vc>(rank).empty());
      REQUIRE(plan.range<split::Rs>(rank).empty());
    }
  }
}

TEST_CASE("without limits every rank is less than a quantum from its speed's share", "[split]") {
  for (unsigned seed = 1; seed <= 4000; ++seed) {
    draw d{seed};
    split_plan const plan = split_plan::fit(d.shape, d.budgets, d.options);
    double speeds = 0;
    for (device_budget const& b : d.budgets) { speeds += b.read_gbps; }
    for (int rank = 0; rank < d.world; ++rank) {
      double const part = d.budgets[index(rank)].read_gbps / speeds;
      auto const off = [&](shard_range got, std::size_t extent, std::size_t quantum) {
        // The axis' last quantum may be short, but counts as one.
        double const units = std::ceil(static_cast<double>(extent) / static_cast<double>(quantum));
        double const mine =
          std::ceil(static_cast<double>(got.size()) / static_cast<double>(quantum));
        return std::abs(mine - units * part);
      };
      INFO("seed " << seed << " rank " << rank);
      REQUIRE(off(plan.range<split::Id>(rank), d.shape.intermediate, d.options.id_quantum) < 1);
      REQUIRE(off(plan.range<split::Vc>(rank), d.shape.vocab, d.options.vc_quantum) < 1);
      REQUIRE(off(plan.range<split::Rs>(rank), d.shape.hidden, d.options.rs_quantum) < 1);
      if (!plan.replicated()) {
        REQUIRE(off(plan.range<split::Kv>(rank), d.shape.kv_heads, 1) < 1);
      }
    }
  }
}

TEST_CASE("odd units go where the slowest rank ends first", "[split]") {
  std::minstd_rand random{7};
  for (int round = 0; round < 2000; ++round) {
    std::size_t const ranks = 1 + random() % 8;
    std::size_t const units = 1 + random() % 40;
    std::array<std::size_t, tpx::max_ranks> speed{};
    tpx::detail::shares weight{};
    std::size_t total = 0;
    for (std::size_t r = 0; r < ranks; ++r) {
      total += speed[r] = 1 + random() % 50;
      weight[r] = static_cast<double>(speed[r]);
    }
    auto const got = tpx::detail::apportion(units, weight, tpx::detail::uncapped, 1);

    // Oracle: every way to round the ideals up or down that adds up.
    double best = std::numeric_limits<double>::max();
    for (unsigned up = 0; up < 1u << ranks; ++up) {
      std::size_t given = 0;
      double slowest = 0;
      for (std::size_t r = 0; r < ranks; ++r) {
        bool const odd = units * speed[r] % total != 0;
        std::size_t const n = units * speed[r] / total + (odd && (up >> r & 1) != 0 ? 1 : 0);
        given += n;
        slowest = std::max(slowest, static_cast<double>(n) / weight[r]);
      }
      if (given == units) { best = std::min(best, slowest); }
    }
    double slowest = 0;
    std::size_t sum = 0;
    for (std::size_t r = 0; r < tpx::max_ranks; ++r) {
      sum += got[r];
      if (r < ranks) { slowest = std::max(slowest, static_cast<double>(got[r]) / weight[r]); }
    }
    INFO("round " << round);
    REQUIRE(sum == units);
    REQUIRE(slowest <= best * (1 + 1e-12));
  }
}

TEST_CASE("work is cut so that no rank can end sooner", "[split]") {
  std::minstd_rand random{11};
  auto const real = [&](double most) {
    return most * static_cast<double>(random() % 1000 + 1) / 1000;
  };
  for (int round = 0; round < 2000; ++round) {
    std::size_t const ranks = 1 + random() % tpx::max_ranks;
    tpx::detail::shares start{}, rate{}, cap{};
    double room = 0;
    for (std::size_t r = 0; r < ranks; ++r) {
      start[r] = random() % 2 == 0 ? 0 : real(0.5);
      rate[r] = real(3);
      cap[r] = random() % 5 == 0 ? 0 : real(random() % 2 == 0 ? 0.4 : 1);
      room += cap[r];
    }
    if (room <= 1) { continue; }
    auto const got = tpx::detail::water_fill(start, rate, cap);

    // Oracle: the earliest time at which all the work is done, by bisection.
    auto const done = [&](std::size_t r, double t) {
      return std::clamp((t - start[r]) * rate[r], 0.0, cap[r]);
    };
    double early = 0, late = 1e4;
    for (int i = 0; i < 200; ++i) {
      double const middle = (early + late) / 2;
      double work = 0;
      for (std::size_t r = 0; r < ranks; ++r) { work += done(r, middle); }
      (work < 1 ? early : late) = middle;
    }
    for (std::size_t r = 0; r < tpx::max_ranks; ++r) {
      INFO("round " << round << " rank " << r);
      REQUIRE(std::abs(got[r] - (r < ranks ? done(r, late) : 0)) < 1e-9);
    }
  }
}

TEST_CASE("a rank that would get less than the minimum gets nothing", "[split]") {
  std::minstd_rand random{13};
  for (int round = 0; round < 2000; ++round) {
    tpx::detail::shares weight{};
    for (std::size_t r = 0; r < tpx::max_ranks; ++r) {
      weight[r] = static_cast<double>(random() % 30);
    }
    weight[random() % tpx::max_ranks] = 30;
    std::size_t const units = 1 + random() % 100;
    std::size_t const minimum = 1 + random() % 12;
    auto const got = tpx::detail::apportion(units, weight, tpx::detail::uncapped, minimum);
    std::size_t sum = 0;
    for (std::size_t r = 0; r < tpx::max_ranks; ++r) {
      INFO("round " << round << " rank " << r);
      REQUIRE((got[r] == 0 || got[r] >= std::min(minimum, units)));
      for (std::size_t other = 0; other < tpx::max_ranks; ++other) {
        if (weight[other] > weight[r]) { REQUIRE(got[other] >= got[r]); }
      }
      sum += got[r];
    }
    REQUIRE(sum == units);
  }
}

TEST_CASE("a plan fits wherever there is a quantum to spare", "[split]") {
  int limited = 0;
  for (unsigned seed = 1; seed <= 4000; ++seed) {
    draw d{seed};
    std::vector<double> parts(d.budgets.size());
    for (double& part : parts) { part = static_cast<double>(d.pick(0, 9)); }
    parts[d.pick(0, parts.size() - 1)] = 5;
    double const slack = static_cast<double>(d.world) * (d.rounding() + 2);
    d.give_memory(parts, d.split_bytes() + slack);
    split_plan const plan = split_plan::fit(d.shape, d.budgets, d.options);
    tpx::split_report const report{plan, d.budgets};
    INFO("seed " << seed << '\n' << report.text());
    REQUIRE(report.fits());
    REQUIRE(report.why().empty());
    REQUIRE_NOTHROW(report.require());
    limited +=
      plan == split_plan::fit(d.shape, std::vector<device_budget>(d.budgets.size()), d.options) ? 0
                                                                                                : 1;
  }
  CHECK(limited > 1000);  // memory decided something in a good part of them
}

TEST_CASE("more memory never means fewer bytes, but for a quantum", "[split]") {
  for (unsigned seed = 1; seed <= 4000; ++seed) {
    draw d{seed};
    std::vector<double> parts(d.budgets.size());
    for (double& part : parts) { part = static_cast<double>(d.pick(1, 9)); }
    d.give_memory(parts, d.split_bytes() * 1.3 + d.world * d.rounding());
    int const rank = d.upto(0, d.world - 1);
    tpx::split_report const before{split_plan::fit(d.shape, d.budgets, d.options), d.budgets};
    d.budgets[index(rank)].memory +=
      static_cast<std::size_t>(d.split_bytes() / static_cast<double>(d.pick(1, 50)));
    tpx::split_report const after{split_plan::fit(d.shape, d.budgets, d.options), d.budgets};
    INFO("seed " << seed << " rank " << rank << '\n' << before.text() << after.text());
    REQUIRE(held(after, rank) + d.rounding() >= held(before, rank));
  }
}

TEST_CASE("the rank with little memory gets what fits and the others the rest", "[split]") {
  std::vector<device_budget> const budgets{{.memory = 24 * GiB, .reserve = GiB},
                                           {.memory = 24 * GiB, .reserve = GiB},
                                           {.memory = 5 * GiB, .reserve = GiB}};
  split_plan const plan = split_plan::fit(llama_8b, budgets, {.tokens = 32768});
  tpx::split_report const report{plan, budgets};
  INFO(report.text());
  CHECK(report.fits());
  CHECK(plan.range<split::Kv>(2).size() == 1);
  CHECK(plan.range<split::Id>(0).size() > 2 * plan.range<split::Id>(2).size());
  CHECK(plan.range<split::Rs>(2).size() > 0);
  tpx::rank_holding const& h = report.holding(2);
  CHECK(h.total() == h.weights + h.replicated + h.cache + 10 * 1024 * 1024 + GiB);
  CHECK(h.free() + h.total() == 5 * GiB);
}

TEST_CASE("a slow link takes work away, and too slow a link all of it", "[split]") {
  std::vector<device_budget> budgets(3, {.read_gbps = 1000, .link_gbps = 20});
  split_options const options{.step_tokens = 64, .id_quantum = 1};
  split_plan const alike = split_plan::fit(llama_8b, budgets, options);
  CHECK(alike.range<split::Id>(2).size() == alike.range<split::Id>(0).size() - 1);
  budgets[2].link_gbps = 5;
  split_plan const slower = split_plan::fit(llama_8b, budgets, options);
  CHECK(slower.range<split::Id>(2).size() < alike.range<split::Id>(2).size());
  CHECK(slower.range<split::Vc>(2).size() < alike.range<split::Vc>(2).size());
  CHECK(slower.range<split::Id>(2).size() > 0);
  budgets[2].link_gbps = 0.01;
  split_plan const without = split_plan::fit(llama_8b, budgets, options);
  CHECK(without.range<split::Id>(2).empty());
  CHECK(without.range<split::Q>(2).empty());
  CHECK(without.owners<split::Id>() == 2);

  // Equal end: bytes over speed plus the reduction over the link.
  auto const seconds = [&](int rank) {
    double const read = static_cast<double>(slower.range<split::Id>(rank).size()) * 3 * 4096 * 2;
    return read / 1000 + 64.0 * 4096 * 2 / (rank == 2 ? 5 : 20);
  };
  CHECK(std::abs(seconds(0) - seconds(2)) < 2 * 3 * 4096 * 2 / 1000.0);
}

TEST_CASE("key/value heads are on several ranks only where there are more ranks than heads",
          "[split]") {
  for (std::size_t const kv : {1u, 2u, 3u, 4u, 8u}) {
    for (std::size_t const group : {1u, 2u, 4u, 7u}) {
      for (int world = 1; world <= 16; ++world) {
        split_plan const plan = split_plan::even(with_heads(kv * group, kv), world);
        INFO("kv " << kv << " group " << group << " world " << world);
        REQUIRE(in_step(plan));
        std::size_t const ranks = index(world);
        REQUIRE(plan.replicated() == (ranks > kv && group > 1));
        std::size_t const busy =
          plan.replicated() ? std::min(ranks, kv * group) : std::min(ranks, kv);
        REQUIRE(plan.owners<split::Q>() == static_cast<int>(busy));
        REQUIRE(plan.owners<split::Kv>() == static_cast<int>(busy));
        std::vector<int> holders(kv);
        for (int rank = 0; rank < world; ++rank) {
          shard_range const mine = plan.range<split::Kv>(rank);
          for (std::size_t head = mine.begin; head < mine.end; ++head) { ++holders[head]; }
        }
        if (plan.replicated()) {
          auto const [least, most] = std::minmax_element(holders.begin(), holders.end());
          REQUIRE(*most - *least <= 1);
        }
      }
    }
  }
}

TEST_CASE("heads are not replicated where the slowest rank would not gain", "[split]") {
  std::vector<device_budget> budgets{{.read_gbps = 100}, {.read_gbps = 100}, {.read_gbps = 1}};
  split_plan const plan = split_plan::fit(with_heads(8, 2), budgets);
  CHECK_FALSE(plan.replicated());
  CHECK(plan.range<split::Q>(2).empty());
  budgets[2].read_gbps = 100;
  CHECK(split_plan::fit(with_heads(8, 2), budgets).replicated());
}

TEST_CASE("every rank gets a query head where uneven ranks share key/value heads", "[split]") {
  std::vector<device_budget> const budgets{
    {.read_gbps = 2}, {.read_gbps = 1}, {.read_gbps = 1}, {.read_gbps = 1}};
  split_plan const plan = split_plan::fit(with_heads(4, 2), budgets);
  CHECK(plan.owners<split::Q>() == 4);
  CHECK(plan.range<split::Kv>(1) == shard_range{0, 1});
  CHECK(plan.range<split::Kv>(2) == shard_range{1, 2});
}

TEST_CASE("heads are not replicated where memory forbids it", "[split]") {
  model_shape const shape = with_heads(8, 2);
  split_options const options{.tokens = 100000};
  std::vector<device_budget> budgets(4, {.memory = 80 * GiB});
  CHECK(split_plan::fit(shape, budgets, options).replicated());
  for (std::size_t const rank : {2u, 3u}) { budgets[rank].memory = 5 * GiB / 2; }
  split_plan const plan = split_plan::fit(shape, budgets, options);
  tpx::split_report const report{plan, budgets};
  INFO(report.text());
  CHECK(report.fits());
  CHECK_FALSE(plan.replicated());
}

TEST_CASE("ranks past the units get empty ranges", "[split]") {
  model_shape shape = toy(2, 2);
  split_plan const plan = split_plan::even(shape, 16, {.id_quantum = 50, .rs_quantum = 96});
  CHECK(plan.owners<split::Kv>() == 2);
  CHECK(plan.owners<split::Id>() == 2);
  CHECK(plan.owners<split::Vc>() == 5);
  CHECK(plan.owners<split::Rs>() == 1);
  CHECK(plan.range<split::Kv>(15) == shard_range{2, 2});
  CHECK(plan.range<split::Vc>(15) == shard_range{130, 130});
  CHECK_FALSE(plan.even<split::Kv>());
}

TEST_CASE("a caller's own ranges make the plan that they say", "[split]") {
  tpx::split_ranges ranges;
  ranges.q = {{{0, 4}, {4, 4}, {4, 6}, {6, 8}}};
  ranges.id = {{{0, 8}, {8, 8}, {8, 56}, {56, 100}}};
  ranges.vc = {{{0, 0}, {0, 130}, {130, 130}, {130, 130}}};
  ranges.rs = {{{0, 32}, {32, 64}, {64, 96}, {96, 96}}};
  split_plan const plan{toy(8, 2), 4, ranges, toy_options};
  CHECK(plan.range<split::Kv>(0) == shard_range{0, 1});
  CHECK(plan.range<split::Kv>(1).empty());
  CHECK(plan.range<split::Kv>(2) == shard_range{1, 2});
  CHECK(plan.range<split::Kv>(3) == shard_range{1, 2});
  CHECK(plan.range<split::Id>(2) == shard_range{8, 56});
  CHECK(plan.owners<split::Vc>() == 1);
  CHECK(plan.count<split::Id>() == 100);

  auto const refused = [&](auto change) {
    tpx::split_ranges bad = ranges;
    change(bad);
    return message_of([&] { split_plan{toy(8, 2), 4, bad, toy_options}; });
  };
  CHECK_THAT(
    refused([](auto& r) { r.id[2].begin = 16; }),
    ContainsSubstring("rank 2's range Id [16, 56) does not begin where the one before ends"));
  CHECK_THAT(refused([](auto& r) { r.id[3].end = 96; }),
             ContainsSubstring("leaves the end of the axis to nobody"));
  CHECK_THAT(
    refused([](auto& r) { r.id[0].end = r.id[1].begin = r.id[1].end = r.id[2].begin = 9; }),
    ContainsSubstring("rank 0's range Id [0, 9) breaks the quantum of 8"));
  CHECK_THAT(refused([](auto& r) { r.vc[1].end = 131; }),
             ContainsSubstring("rank 1's range Vc [0, 131) ends past the axis"));
  CHECK_THAT(refused([](auto& r) { r.rs[2].end = 32; }),
             ContainsSubstring("rank 2's range Rs [64, 32) ends before it begins"));
  CHECK_THAT(refused([](auto& r) {
               r.rs[4] = {96, 128};
             }),
             ContainsSubstring("rank 4's range Rs [96, 128) is not empty past the last rank"));
  CHECK_THAT(refused([](auto& r) { r.q[0].end = r.q[1].begin = r.q[1].end = r.q[2].begin = 3; }),
             ContainsSubstring("rank 2's range Q [3, 6) has parts of several key/value heads"));
}

TEST_CASE("what makes no sense is refused with its values and a remedy", "[split]") {
  auto const even = [](model_shape const& shape, int world, split_options const& options = {}) {
    return message_of([&] { (void)split_plan::even(shape, world, options); });
  };
  CHECK_THAT(even(llama_8b, 0), ContainsSubstring("0 ranks were asked for"));
  CHECK_THAT(even(llama_8b, -3), ContainsSubstring("-3 ranks were asked for"));
  CHECK_THAT(even(llama_8b, 17),
             ContainsSubstring("17 ranks were asked for") && ContainsSubstring("1 to 16 ranks"));
  CHECK_THAT(even(with_heads(32, 6), 4),
             ContainsSubstring("query_heads 32 is not a multiple of kv_heads 6"));
  CHECK_THAT(even(with_heads(0, 6), 4), ContainsSubstring("query_heads is 0"));
  CHECK_THAT(even(llama_8b, 4, {.id_quantum = 0}), ContainsSubstring("id_quantum is 0"));
  model_shape shape = llama_8b;
  shape.intermediate = std::size_t{1} << 33;
  CHECK_THAT(even(shape, 4), ContainsSubstring("intermediate is 8589934592, over 4294967296"));
  shape.intermediate = shape.hidden = shape.layers = std::size_t{1} << 32;
  CHECK_THAT(even(shape, 4), ContainsSubstring("2^62"));
  CHECK_THAT(even(llama_8b, 4, {.tokens = std::numeric_limits<std::size_t>::max()}),
             ContainsSubstring("2^62"));
  shape = llama_8b;
  shape.weight_bytes = std::numeric_limits<double>::quiet_NaN();
  CHECK_THAT(even(shape, 4), ContainsSubstring("weight_bytes"));

  auto const fit = [](std::vector<device_budget> const& budgets) {
    return message_of([&] { (void)split_plan::fit(llama_8b, budgets); });
  };
  CHECK_THAT(fit({}), ContainsSubstring("0 ranks were asked for"));
  CHECK_THAT(fit(std::vector<device_budget>(17)), ContainsSubstring("17 ranks were asked for"));
  CHECK_THAT(fit({{.memory = 0}, {.memory = 0}}),
             ContainsSubstring("the budget of every rank has memory 0"));
  CHECK_THAT(fit({{}, {.read_gbps = 0}}), ContainsSubstring("read_gbps of rank 1 is 0"));
  CHECK_THAT(fit({{}, {.link_gbps = -1}}), ContainsSubstring("link_gbps of rank 1 is -1"));

  split_plan const plan = split_plan::even(llama_8b, 4);
  CHECK_THAT(message_of([&] { (void)plan.range<split::Id>(4); }),
             ContainsSubstring("rank 4 was asked for") && ContainsSubstring("ranks 0 to 3"));
  CHECK_THAT(message_of([&] { tpx::split_report(plan, std::vector<device_budget>(3)); }),
             ContainsSubstring("3 budgets were given for a plan of 4 ranks"));
}

TEST_CASE("the report counts every byte that the ranks will hold", "[split][report]") {
  // Oracle: the parameters of Llama 3 8B, tensor by tensor.
  std::size_t const attention = 4096 * 4096 * 2 + 4096 * 1024 * 2;
  std::size_t const mlp = std::size_t{3} * 4096 * 14336;
  std::size_t const head = std::size_t{128256} * 4096;
  std::size_t const split_weights = 2 * (32 * (attention + mlp) + head);
  std::size_t const replicated = 2 * (head + 65 * 4096);
  REQUIRE(split_weights + replicated == std::size_t{2} * 8030261248);
  for (int world = 1; world <= 8; ++world) {
    tpx::split_report const report{split_plan::even(llama_8b, world, {.tokens = 1000})};
    std::size_t weights = 0, cache = 0;
    for (int rank = 0; rank < world; ++rank) {
      weights += report.holding(rank).weights;
      cache += report.holding(rank).cache;
      CHECK(report.holding(rank).replicated == replicated);
      CHECK(report.holding(rank).communicator == 10 * 1024 * 1024);
    }
    CHECK(weights == split_weights);
    CHECK(cache == std::size_t{1000} * 32 * 2 * 1024 * 2);
    CHECK(report.fits());
  }
}

TEST_CASE("biases, tied heads and an embedding on the host are counted", "[split][report]") {
  auto const weights = [](model_shape const& shape) {
    return tpx::split_report{split_plan::even(shape, 1)}.holding(0);
  };
  auto const plain = weights(tiny);
  model_shape shape = tiny;
  shape.attention_bias = true;
  CHECK(weights(shape).weights - plain.weights == 4 * 2 * (256 + 256 + 256));
  shape = tiny;
  shape.tied_embeddings = true;
  CHECK(plain.weights - weights(shape).weights == 2048 * 256 * 2);
  CHECK(weights(shape).replicated == plain.replicated);
  shape.embedding_on_host = true;
  CHECK(weights(shape).weights == plain.weights);
  CHECK(plain.replicated - weights(shape).replicated == 2048 * 256 * 2);
  CHECK(weights(shape).replicated == 9 * 256 * 2);
}

TEST_CASE("what does not fit is refused with the rank, the bytes and a remedy that works",
          "[split][report]") {
  std::vector<device_budget> const budgets(2, {.memory = 12 * GiB});
  split_options options{.tokens = 100000};
  split_plan const plan = split_plan::fit(llama_8b, budgets, options);
  tpx::split_report const report{plan, budgets};
  CHECK_FALSE(report.fits());
  std::size_t const lacking = report.holding(0).lacking();
  CHECK(lacking == report.holding(0).total() - 12 * GiB);
  try {
    report.require();
    FAIL("require() let it pass");
  } catch (tpx::error const& e) {
    CHECK(e.code() == tpx::errc::out_of_memory);
    CHECK(e.peer() == 0);
    CHECK_THAT(e.what(), ContainsSubstring("rank 0 lacks 2.1 GiB (" + std::to_string(lacking) +
                                           " bytes): it would hold 14.1 GiB of 12.0 GiB"));
    CHECK_THAT(e.remedy(),
               ContainsSubstring("keep at most " + std::to_string(report.most_tokens()) +
                                 " tokens of cache instead of 100000"));
  }
  CHECK_THAT(report.text(), ContainsSubstring("does not fit: rank 0 lacks 2.1 GiB"));

  options.tokens = report.most_tokens();
  CHECK(tpx::split_report{split_plan::fit(llama_8b, budgets, options), budgets}.fits());
  options.tokens += 1;
  CHECK_FALSE(tpx::split_report{split_plan::fit(llama_8b, budgets, options), budgets}.fits());

  std::vector<device_budget> const small(2, {.memory = 6 * GiB});
  tpx::split_report const hopeless{split_plan::fit(llama_8b, small), small};
  CHECK(hopeless.most_tokens() == 0);
  CHECK_THAT(hopeless.why(), ContainsSubstring("no cache size helps: add ranks or memory"));

  std::vector<device_budget> const uneven{{.memory = 40 * GiB}, {.memory = 6 * GiB}};
  tpx::split_report const other{split_plan::even(llama_8b, 2), uneven};
  CHECK_THAT(other.why(),
             ContainsSubstring("rank 1 lacks") && ContainsSubstring("split_plan::fit"));
}

TEST_CASE("where memory falls short every rank lacks in proportion", "[split][report]") {
  std::vector<device_budget> const budgets{
    {.memory = 4 * GiB}, {.memory = 2 * GiB}, {.memory = 4 * GiB}, {.memory = GiB / 2}};
  split_plan const plan = split_plan::fit(llama_8b, budgets);
  CHECK(plan.range<split::Id>(0).size() > 2 * plan.range<split::Id>(1).size());
  CHECK(plan.range<split::Id>(3).empty());
  // No rank has room for the embedding alone: still a plan, and a reason.
  std::vector<device_budget> const none(2, {.memory = GiB / 2});
  tpx::split_report const report{split_plan::fit(llama_8b, none), none};
  CHECK_FALSE(report.fits());
  CHECK(report.holding(0).lacking() > 6 * GiB);
  // The message is about the rank that lacks most.
  std::vector<device_budget> const given{{.memory = 8 * GiB}, {.memory = 4 * GiB}};
  CHECK_THAT((tpx::split_report{split_plan::even(llama_8b, 2), given}.why()),
             ContainsSubstring("rank 1 lacks"));
}

TEST_CASE("the report is an aligned table with a line a rank", "[split][report]") {
  std::vector<device_budget> const budgets{{.memory = 4 << 20}, {}, {.memory = 0}};
  split_options options = tiny_options;
  options.communicator_bytes = 1 << 20;
  tpx::split_report const report{split_plan::fit(tiny, budgets, options), budgets};
  std::string const text = report.text();
  INFO(text);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t const end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  REQUIRE(lines.size() == 6);
  CHECK_THAT(lines[0], ContainsSubstring("3 ranks, 4 layers, hidden 256, 8 query and 8 key/value "
                                         "heads of 32, MLP 672, vocabulary 2048, 512 tokens"));
  CHECK_THAT(lines[1], ContainsSubstring("rank") && ContainsSubstring("cache"));
  for (std::size_t i = 2; i < 5; ++i) { CHECK(lines[i].size() == lines[1].size()); }
  CHECK_THAT(lines[2], ContainsSubstring("[0,"));
  CHECK_THAT(lines[4], ContainsSubstring("   -  "));
  CHECK_THAT(lines[5], ContainsSubstring("fits: rank 0 is the fullest"));
  CHECK_THAT(tpx::split_report{split_plan::even(tiny, 2)}.text(),
             ContainsSubstring("fits: no rank has a limit"));
}

TEST_CASE("bytes read well", "[split][report]") {
  CHECK(tpx::human_bytes(0) == "0 B");
  CHECK(tpx::human_bytes(1023) == "1023 B");
  CHECK(tpx::human_bytes(1024) == "1.0 KiB");
  CHECK(tpx::human_bytes(1536) == "1.5 KiB");
  CHECK(tpx::human_bytes((1 << 20) - 1) == "1.0 MiB");
  CHECK(tpx::human_bytes(24 * GiB) == "24.0 GiB");
  CHECK(tpx::human_bytes(std::numeric_limits<std::size_t>::max()) == "16.0 EiB");
}
