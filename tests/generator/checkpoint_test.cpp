// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"

#include <tpx/generator/checkpoint.hpp>
#include <tpx/generator/state_savepoint.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstring>
#include <list>
#include <optional>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

using tpx::checkpoint_store;
using tpx::hash128;

constexpr std::size_t state_bytes = 24;

// Low bits that meet often: several keys share a chain.
hash128 key(std::uint64_t i) {
  return {i % 7, i};
}

auto writing(std::uint64_t value) {
  return [value](std::span<std::byte> to) {
    REQUIRE(to.size() == state_bytes);
    for (std::size_t i = 0; i < 3; ++i) { std::memcpy(to.data() + 8 * i, &value, 8); }
  };
}
std::uint64_t read(std::span<std::byte const> from) {
  REQUIRE(from.size() == state_bytes);
  std::uint64_t value[3];
  std::memcpy(value, from.data(), sizeof(value));
  REQUIRE(value[0] == value[1]);
  REQUIRE(value[0] == value[2]);
  return value[0];
}

// What a store should hold; the front is the next to go.
struct plain_store {
  struct entry {
    std::uint64_t key;
    std::uint64_t value;
  };
  std::size_t room;
  std::list<entry> entries = {};  // the least recently used first

  std::list<entry>::iterator find(std::uint64_t k) {
    return std::ranges::find(entries, k, &entry::key);
  }
  bool use(std::uint64_t k) {
    auto const at = find(k);
    if (at == entries.end()) { return false; }
    entries.splice(entries.end(), entries, at);
    return true;
  }
};

}  // namespace

TEST_CASE("a checkpoint store holds what a plain list would", "[checkpoint]") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random{seed};
    std::size_t const room = 1 + random() % 12;
    checkpoint_store store{state_bytes, room * state_bytes + random() % state_bytes};
    REQUIRE(store.capacity() == room);
    plain_store plain{room};
    for (std::uint64_t step = 0; step < 800; ++step) {
      auto const k = random() % 20;
      switch (random() % 4) {
        case 0: {
          bool const saved = store.save(key(k), writing(step));
          REQUIRE(saved == !plain.use(k));
          if (!saved) { break; }
          if (plain.entries.size() == room) { plain.entries.pop_front(); }
          plain.entries.push_back({k, step});
          break;
        }
        case 1: {
          std::vector<hash128> keys;
          std::size_t pages = 0;
          for (std::size_t i = 0; i < 4; ++i) {
            auto const wanted = (k + i) % 20;
            keys.push_back(key(wanted));
            if (plain.find(wanted) != plain.entries.end()) { pages = i + 1; }
          }
          auto const found = store.longest(keys);
          REQUIRE(found.pages == pages);
          if (pages > 0) {
            REQUIRE(read(found.state) == plain.find((k + pages - 1) % 20)->value);
            plain.use((k + pages - 1) % 20);
          }
          break;
        }
        case 2:
          store.evicted(key(k));
          if (auto const at = plain.find(k); at != plain.entries.end()) { plain.entries.erase(at); }
          break;
        default:
          if (random() % 100 == 0) {
            store.clear();
            plain.entries.clear();
          }
      }
      REQUIRE(store.size() == plain.entries.size());
      for (auto const& e : plain.entries) { REQUIRE(store.contains(key(e.key))); }
    }
  }
}

TEST_CASE("a state that was not written whole is not kept", "[checkpoint]") {
  checkpoint_store store{state_bytes, 2 * state_bytes};
  store.save(key(1), writing(1));
  store.save(key(2), writing(2));
  auto const fail = [](std::span<std::byte>) { throw std::runtime_error{"the model fails"}; };
  REQUIRE_THROWS_AS(store.save(key(3), fail), std::runtime_error);
  CHECK(store.longest(std::vector{key(3)}).pages == 0);
  CHECK(read(store.longest(std::vector{key(2)}).state) == 2);
  CHECK(store.save(key(3), writing(3)));
  CHECK(store.save(key(4), writing(4)));
  CHECK(read(store.longest(std::vector{key(3), key(9)}).state) == 3);
}

TEST_CASE("a store without room keeps nothing, and one of no bytes is refused", "[checkpoint]") {
  checkpoint_store store{state_bytes, state_bytes - 1};
  CHECK_FALSE(store.save(key(1), writing(1)));
  CHECK(store.longest(std::vector{key(1)}).pages == 0);
  store.evicted(key(1));
  CHECK_THROWS_AS((checkpoint_store{0, 100}), tpx::error);
}

TEST_CASE("a store can live in its user's memory, and moves", "[checkpoint]") {
  std::vector<std::byte> memory(3 * state_bytes);
  checkpoint_store made{state_bytes, std::span{memory}};
  made.save(key(1), writing(77));
  auto store = std::move(made);
  auto const found = store.longest(std::vector{key(1)});
  CHECK(read(found.state) == 77);
  CHECK(found.state.data() >= memory.data());
  CHECK(found.state.data() < memory.data() + memory.size());
}

TEST_CASE("a checkpoint store allocates nothing once it is made", "[checkpoint]") {
  checkpoint_store store{state_bytes, 50 * state_bytes};
  std::vector<hash128> keys(4);
  auto const before = allocations;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    store.save(key(i), [](std::span<std::byte> to) { std::ranges::fill(to, std::byte{1}); });
    keys[i % 4] = key(i / 2);
    (void)store.longest(keys);
    store.evicted(key(i / 3));
  }
  CHECK(allocations == before);
}

TEST_CASE("a state is kept at intervals and at the prompt's last page", "[checkpoint]") {
  constexpr tpx::checkpoint_rule rule{.prompt = 10, .text = 4};
  std::vector<std::size_t> kept;
  for (std::size_t at = 0; (at = rule.next(at, 23)) < 40;) { kept.push_back(at); }
  CHECK(kept == std::vector<std::size_t>{10, 20, 23, 24, 28, 32, 36});
  CHECK(rule.next(0, 0) == 4);
  CHECK(rule.next(3, 8) == 8);
}

namespace {

// Its state is the sum of the tokens it has seen.
struct summing_model {
  static constexpr std::size_t page_size = 4;
  std::vector<std::int64_t> sums = std::vector<std::int64_t>(2);
  std::size_t vocab_size() const { return 2; }
  std::size_t pages() const { return 1; }
  std::span<float> forward(std::span<tpx::step_part const> parts) {
    for (auto const& part : parts) {
      for (auto const token : part.tokens) { sums[part.slot] += token; }
    }
    return {};
  }
  void copy(std::span<tpx::page_copy const>) {}
  std::size_t state_bytes() const { return sizeof(std::int64_t); }
  void save_state(std::uint32_t slot, std::span<std::byte> to) {
    std::memcpy(to.data(), &sums[slot], to.size());
  }
  void load_state(std::uint32_t slot, std::span<std::byte const> from) {
    sums[slot] = 0;
    if (!from.empty()) { std::memcpy(&sums[slot], from.data(), from.size()); }
  }
};

}  // namespace

TEST_CASE("a state that is cut and replayed is that of the tokens that remain", "[checkpoint]") {
  for (unsigned seed = 0; seed < 100; ++seed) {
    std::mt19937 random{seed};
    summing_model model;
    tpx::state_savepoint savepoint{model};
    std::vector<tpx::token_id> text{5};
    std::size_t seen = 0;
    for (int round = 0; round < 50; ++round) {
      if (random() % 2 == 0) { savepoint.save(1, seen); }
      auto const drafted = random() % 5;
      for (std::size_t i = 0; i < drafted; ++i) {
        text.push_back(static_cast<tpx::token_id>(random() % 1000));
      }
      tpx::step_part const part{std::span{text}.subspan(seen), seen, {}, 1, 1};
      model.forward({&part, 1});
      seen = text.size();
      text.resize(text.size() - random() % std::min<std::size_t>(drafted + 1, text.size()));
      text.push_back(1);  // the token that is yet to be seen
      seen = savepoint.cut(1, text.size(), seen);
      REQUIRE(seen < text.size());
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < seen; ++i) { sum += text[i]; }
      REQUIRE(model.sums[1] == sum);
    }
  }
}
