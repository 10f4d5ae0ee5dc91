// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"
#include "page_world.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace pages;
using small = world<4>;
using id = small::id;

std::vector<page_id> table_of(small const& w, id s) {
  auto const row = w.table.pages(s);
  return {row.begin(), row.end()};
}

template <class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (tpx::error const& e) { return e.what(); }
  return "";
}

bool has(std::string const& text, char const* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a prompt that comes again is there but for its last token", "[pages]") {
  for (std::size_t n = 1; n < 14; ++n) {
    small w{{.pages = 10}};
    CHECK(w.visit(count(1, n)) == 0);
    CHECK(w.visit(count(1, n)) == n - 1);
    CHECK(w.contents() == "");
  }
}

TEST_CASE("open sequences with the same beginning have the same pages", "[pages]") {
  small w{{.pages = 10}};
  auto const a = static_cast<id>(w.start(count(1, 10)));
  w.prefill(a);
  auto const b = static_cast<id>(w.start(count(1, 8) + count(50, 4)));
  REQUIRE(w.open.at(b).cached == 8);
  REQUIRE(table_of(w, a)[0] == table_of(w, b)[0]);
  REQUIRE(table_of(w, a)[1] == table_of(w, b)[1]);
  REQUIRE(table_of(w, a)[2] != table_of(w, b)[2]);
  REQUIRE(w.table.info(table_of(w, a)[1]).refs == 2);
  w.prefill(b);
  REQUIRE(w.contents() == "");
}

TEST_CASE("a page that begins alike is copied that far", "[pages]") {
  small w{{.pages = 10}};
  auto const a = static_cast<id>(w.start(count(1, 8)));
  w.prefill(a);
  auto const b = static_cast<id>(w.start(count(1, 7) + count(90, 5)));
  REQUIRE(w.open.at(b).cached == 7);
  REQUIRE(w.table.copies().size() == 1);
  REQUIRE(w.table.copies()[0].from == table_of(w, a)[1]);
  REQUIRE(w.table.copies()[0].to == table_of(w, b)[1]);
  REQUIRE(w.table.copies()[0].tokens == 3);
  w.prefill(b);
  REQUIRE(w.contents() == "");
}

TEST_CASE("of pages that begin alike the one that goes on longest is taken", "[pages]") {
  world<32> w{{.pages = 40}};
  for (token_id i = 0; i < 20; ++i) {  // the first 2, 3, ... tokens of 1, 2, 3, ...
    w.visit(count(1, static_cast<std::size_t>(2 + i)) + count(100 + 10 * i, 5));
  }
  auto const s = static_cast<id>(w.start(count(1, 18) + count(900, 3)));
  REQUIRE(w.open.at(s).cached == 18);
}

TEST_CASE("a conversation goes on in its last page, without a copy", "[pages]") {
  small w{{.pages = 4}};
  w.visit(count(1, 10));
  auto const s = static_cast<id>(w.start(count(1, 12)));
  REQUIRE(w.open.at(s).cached == 10);
  REQUIRE(w.table.copies().empty());
  w.prefill(s);
  REQUIRE(w.contents() == "");
}

TEST_CASE("another salt finds nothing", "[pages]") {
  small w{{.pages = 20}};
  w.visit(count(1, 10), 1);
  CHECK(w.visit(count(1, 10), 2) == 0);
  CHECK(w.visit(count(1, 10), 1) == 9);
}

TEST_CASE("keys that are all the same do no harm but to speed", "[pages]") {
  world<4, SameHash> w{{.pages = 20}};
  w.visit(count(1, 12));
  w.visit(count(50, 4) + count(5, 8));
  CHECK(w.visit(count(1, 12)) == 11);
  auto const s = static_cast<id>(w.start(count(50, 4) + count(5, 8) + count(1, 1)));
  CHECK(w.open.at(s).cached == 12);
  w.prefill(s);
  CHECK(w.contents() == "");
  w.table.validate();
}

TEST_CASE("a page that is completed twice is kept once", "[pages]") {
  small w{{.pages = 10}};
  auto const a = static_cast<id>(w.start(count(1, 9)));
  auto const b = static_cast<id>(w.start(count(1, 9)));
  w.table.prepare(a, 9);
  w.table.prepare(b, 9);
  w.table.carry_out(w.cache);
  w.forward(a, count(1, 9), 9);
  w.forward(b, count(1, 9), 9);
  w.append(a, count(1, 9));
  w.append(b, count(1, 9));
  REQUIRE(table_of(w, a)[0] == table_of(w, b)[0]);
  REQUIRE(table_of(w, a)[1] == table_of(w, b)[1]);
  REQUIRE(table_of(w, a)[2] != table_of(w, b)[2]);
  REQUIRE(w.table.stats().merged_pages == 2);
  REQUIRE(w.table.stats().blank == 6);
  REQUIRE(w.contents() == "");
}

TEST_CASE("the oldest sequence is evicted first, and from its end", "[pages]") {
  small w{{.pages = 8}};
  w.visit(count(1, 16));
  w.visit(count(100, 16));
  w.visit(count(200, 7));  // takes two pages
  CHECK(w.table.stats().evicted_pages == 2);
  auto const s = static_cast<id>(w.start(count(1, 9)));
  CHECK(w.open.at(s).cached == 8);
  w.close(s);
  CHECK(w.visit(count(100, 16)) == 15);
}

TEST_CASE("a sequence's own beginning is not evicted for its end", "[pages]") {
  small w{{.pages = 8}};
  w.visit(count(1, 12));
  w.visit(count(100, 20));
  auto const s = static_cast<id>(w.start(count(1, 12) + count(50, 20)));  // all pages
  REQUIRE(w.open.at(s).cached == 12);
  w.prefill(s);
  REQUIRE(w.contents() == "");
}

TEST_CASE("pages that were claimed and not written are what they were", "[pages]") {
  small w{{.pages = 8}};
  w.visit(count(1, 16));
  w.visit(count(100, 16));
  auto const s = static_cast<id>(w.start(count(200, 1), 31));
  REQUIRE(w.table.stats().reserved == 8);
  w.close(s);
  REQUIRE(w.table.stats().evicted_pages == 0);
  CHECK(w.visit(count(100, 16)) == 15);
  w.table.validate();
}

TEST_CASE("pages that are only reserved still serve as cache", "[pages]") {
  small w{{.pages = 8}};
  w.visit(count(1, 16));
  auto const a = static_cast<id>(w.start(count(200, 1), 27));  // reserves 7 of 8 pages
  auto const b = w.start(count(1, 5));
  REQUIRE(b == -1);  // one page is not enough for two
  w.close(a);
  auto const c = static_cast<id>(w.start(count(200, 1), 23));  // 6
  auto const d = static_cast<id>(w.start(count(1, 5)));
  REQUIRE(w.open.at(d).cached == 4);
  w.table.validate();
  w.prefill(c);
  w.step(c, count(300, 20));
  w.prefill(d);
  REQUIRE(w.contents() == "");
}

TEST_CASE("a sequence that cannot be admitted changes nothing", "[pages]") {
  small w{{.pages = 4, .max_sequences = 2}};
  auto const s = static_cast<id>(w.start(count(1, 6), 2));
  auto const before = table_of(w, s);
  CHECK(w.start(count(1, 6), 7) == -1);
  CHECK(w.start(count(50, 4)) != -1);
  CHECK_FALSE(w.table.grow(s, 16));
  CHECK(table_of(w, s) == before);
  CHECK(w.start(count(1, 1)) == -1);  // no sequence left
  CHECK(w.table.stats().refused == 3);
  w.table.validate();
}

TEST_CASE("what can never be admitted is an error that says why", "[pages]") {
  small w{{.pages = 4, .max_length = 12}};
  CHECK(has(message_of([&] { w.start({}); }), "no tokens"));
  CHECK(has(message_of([&] { w.start(count(1, 10), 3); }), "12 positions"));
  CHECK(has(message_of([&] { w.start(count(1, 1), ~std::size_t{0}); }), "12 positions"));
  CHECK(has(message_of([] { small none{{.pages = 0}}; }), "0 pages"));
  auto const s = static_cast<id>(w.start(count(1, 6)));
  CHECK(has(message_of([&] { w.table.append(s, count(1, 1)); }), "prepared for 0"));
  CHECK(has(message_of([&] { w.table.prepare(s, 9); }), "no room for 9"));
  CHECK(has(message_of([&] { w.table.rewind(s, 1); }), "rewind"));
  CHECK(has(message_of([&] { static_cast<void>(w.table.key(s, 0)); }), "0 full pages"));
  CHECK(has(message_of([&] { w.table.close(s + 1); }), "not open"));
  CHECK(has(message_of([&] { static_cast<void>(w.table.info(4)); }), "no page 4"));
  w.table.validate();
}

TEST_CASE("a sequence that was rewound and written anew is as if it had been so at once",
          "[pages]") {
  for (std::size_t to = 0; to <= 14; ++to) {
    small w{{.pages = 20}};
    auto const s = static_cast<id>(w.start(count(1, 14), 20));
    w.prefill(s);
    auto const other = static_cast<id>(w.start(count(1, 13)));  // shares three pages
    REQUIRE(w.table.rewind(s, to));
    w.open.at(s).tokens.resize(to);
    w.table.validate();
    w.step(s, count(500, 12));
    CHECK(w.contents() == "");  // keys too
    CHECK(w.table.length(s) == to + 12);
    w.prefill(other);
    CHECK(w.contents() == "");
    w.table.validate();
  }
}

TEST_CASE("a rewind into a shared page needs a page", "[pages]") {
  small w{{.pages = 3}};
  auto const a = static_cast<id>(w.start(count(1, 4)));
  w.prefill(a);
  auto const b = static_cast<id>(w.start(count(1, 5), 3));
  auto const c = static_cast<id>(w.start(count(70, 1)));
  REQUIRE_FALSE(w.table.rewind(a, 2));
  w.open.at(a).tokens.resize(2);
  REQUIRE(has(message_of([&] { w.table.prepare(a, 1); }), "grow()"));
  w.table.validate();
  w.close(c);
  REQUIRE(w.table.grow(a, 1));
  w.step(a, count(60, 1));
  w.prefill(b);
  REQUIRE(w.contents() == "");
}

TEST_CASE("drafts that are not kept leave no trace", "[pages]") {
  small w{{.pages = 4}};
  w.visit(count(300, 8));
  auto const s = static_cast<id>(w.start(count(1, 3), 10));
  w.prefill(s);
  text const drafts = count(4, 10);
  w.table.prepare(s, 10);
  w.table.carry_out(w.cache);
  w.forward(s, drafts, 2);
  w.append(s, std::span{drafts}.first(2));
  CHECK(w.contents() == "");
  w.close(s);
  w.table.validate();
  CHECK(w.visit(count(1, 5) + count(90, 1)) == 5);
  CHECK(w.visit(count(300, 8)) == 0);  // its pages were written
  CHECK(w.contents() == "");
}

TEST_CASE("evicted pages come back from the host", "[pages]") {
  small w{{.pages = 4, .host_pages = 8}};
  w.visit(count(1, 13));
  w.visit(count(100, 13));
  CHECK(w.table.stats().stored_pages == 3);
  auto const s = static_cast<id>(w.start(count(1, 13)));
  CHECK(w.open.at(s).cached == 12);
  CHECK(w.table.stats().fetched_pages == 3);
  w.prefill(s);
  CHECK(w.contents() == "");
  CHECK(w.table.evicted().empty());
  w.close(s);
  CHECK(w.visit(count(100, 13)) == 12);
  CHECK(w.table.stats().stored_pages == 6);  // what came from the host is there still
  w.table.validate();
}

TEST_CASE("a full host tier forgets what was used least", "[pages]") {
  small w{{.pages = 2, .host_pages = 2}};
  for (token_id i = 0; i < 4; ++i) { w.visit(count(100 * i, 5)); }
  w.table.carry_out(w.cache);
  REQUIRE(w.table.evicted().size() == 1);
  CHECK(w.visit(count(200, 5)) == 4);
  CHECK(w.visit(count(0, 5)) == 0);
  w.table.validate();
}

TEST_CASE("a prompt's host pages can be fetched before it is admitted", "[pages]") {
  small w{{.pages = 6, .host_pages = 8}};
  w.visit(count(1, 13));
  w.visit(count(100, 21));
  REQUIRE(w.table.prefetch(count(1, 13)) == 12);
  w.table.carry_out(w.cache);
  auto const s = static_cast<id>(w.start(count(1, 13)));
  REQUIRE(w.open.at(s).cached == 12);
  REQUIRE(w.table.stats().fetched_pages == 3);
  w.prefill(s);
  REQUIRE(w.contents() == "");
  REQUIRE(w.table.prefetch(count(900, 5)) == 0);
  w.table.validate();
}

TEST_CASE("a page that nobody has any more is reported by its key", "[pages]") {
  small w{{.pages = 3}};
  auto const s = static_cast<id>(w.start(count(1, 9)));
  w.prefill(s);
  auto const first = w.table.key(s, 0);
  auto const second = w.table.key(s, 1);
  w.close(s);
  w.visit(count(50, 7));
  REQUIRE(w.table.evicted().size() == 1);  // and a page that had no key
  REQUIRE(w.table.evicted()[0] == second);
  w.table.evicted_done();
  w.visit(count(80, 9));
  REQUIRE(w.table.evicted()[0] == first);
}

TEST_CASE("defragmentation brings pages that follow each other side by side", "[pages]") {
  small w{{.pages = 40}};
  std::vector<id> all;
  for (token_id i = 0; i < 3; ++i) { all.push_back(static_cast<id>(w.start(count(1000 * i, 1)))); }
  for (id const s : all) { w.prefill(s); }
  for (int round = 0; round < 10; ++round) {  // they grow in turns
    for (id const s : all) {
      REQUIRE(w.table.grow(s, 4));
      w.step(s, count(static_cast<token_id>(1000 * s) + 4 * round + 1, 4));
    }
  }
  w.close(all[1]);
  REQUIRE(w.table.stats().fragmentation > 0.9);
  for (std::size_t moves = 3; moves != 0;) {
    moves = w.table.defragment(3);
    REQUIRE(moves <= 3);
    REQUIRE(w.table.copies().size() <= 3);
    w.table.validate();
    REQUIRE(w.contents() == "");
  }
  auto const stats = w.table.stats();
  CHECK(stats.fragmentation == 0);
  CHECK(stats.moved_pages < 50);
  auto const row = table_of(w, all[0]);
  for (std::size_t i = 1; i < row.size(); ++i) { CHECK(row[i] == row[i - 1] + 1); }
  CHECK(w.visit(count(1000, 42)) == 41);
}

TEST_CASE("however fast pages change, defragmentation makes few plans", "[pages]") {
  tpx::page_table<4> table{{.pages = 64 * 50, .max_sequences = 4}};
  text t{1, 2, 3, 4, 5};
  for (token_id i = 0; i < 1000; ++i) {
    t[0] = i;
    auto const s = table.open(t, 40)->sequence;
    table.prepare(s, t.size());
    table.append(s, t);
    table.close(s);
    table.defragment(2);
  }
  auto const plans = table.stats().plans;
  REQUIRE(plans >= 10);
  REQUIRE(plans <= 1000 / 50 + 1);
}

TEST_CASE("there is no defragmentation without a page to spare", "[pages]") {
  small w{{.pages = 4}};
  auto const a = static_cast<id>(w.start(count(1, 4)));
  auto const b = static_cast<id>(w.start(count(100, 4)));
  REQUIRE(w.table.grow(a, 8));
  REQUIRE(w.table.grow(b, 8));
  REQUIRE(w.table.stats().fragmentation > 0);
  REQUIRE(w.table.defragment(10) == 0);
  w.table.validate();
}

TEST_CASE("copies go on after a throw where they stopped", "[pages]") {
  struct failing : fake_cache<4> {
    using fake_cache<4>::fake_cache;
    int left = 0;
    void may_fail() {
      if (left-- == 0) { throw std::runtime_error{"no"}; }
    }
    void store(page_id page, std::uint32_t host, std::size_t tokens) {
      may_fail();
      fake_cache<4>::store(page, host, tokens);
    }
    void fetch(std::uint32_t host, page_id page, std::size_t tokens) {
      may_fail();
      fake_cache<4>::fetch(host, page, tokens);
    }
    void copy(std::span<tpx::page_copy const> copies) {
      may_fail();
      fake_cache<4>::copy(copies);
    }
  };
  for (int fail_at = 0; fail_at < 6; ++fail_at) {
    small w{{.pages = 4, .host_pages = 8}};
    w.visit(count(1, 13));
    w.visit(count(100, 13));
    w.table.carry_out(w.cache);
    failing cache{4, 8};
    static_cast<fake_cache<4>&>(cache) = w.cache;
    cache.left = fail_at;
    auto const s = static_cast<id>(w.start(count(1, 13)));
    REQUIRE_THROWS_AS(w.table.carry_out(cache), std::runtime_error);
    w.table.carry_out(cache);
    REQUIRE(w.table.host_moves().empty());
    w.cache = cache;
    w.prefill(s);
    REQUIRE(w.contents() == "");
  }
}

TEST_CASE("validation finds what is broken, and says where", "[pages]") {
  using sequences = tpx::detail::page_writer<4, tpx::MultiplyMix>;
  auto const fault_after = [](void (*breaks)(sequences&)) {
    sequences all{{.pages = 6, .host_pages = 2}};
    text const tokens = count(1, 10);
    all.begin(0, all.find(0, tokens, 0), 0, false);
    all.reserve(0, 4);
    all.prepare(0, 10);
    all.append(0, tokens);
    using audit = tpx::detail::page_audit<4, tpx::MultiplyMix>;
    audit{all}.run();
    breaks(all);
    return message_of([&] { audit{all}.run(); });
  };
  CHECK(has(fault_after([](sequences& all) { ++all.pool[1].refs; }), "page 1: "));
  CHECK(has(fault_after([](sequences& all) { all.pool[3].owner = 7; }), "sequence 0: "));
  CHECK(has(fault_after([](sequences& all) { all.pool[5].refs = 1; }), "page 5: "));
  CHECK(has(fault_after([](sequences& all) { all.row(0)[1] = 0; }), "follows another"));
  CHECK(has(fault_after([](sequences& all) { all[0].length = 11; }), "not in this order"));
  CHECK(has(fault_after([](sequences& all) { all.pool.contents.truncate(1, 3); }), "sequence 0: "));
  CHECK(has(fault_after([](sequences& all) {
              all.pool.contents.truncate(1, 0);
              all.pool.contents.extend(1, count(5, 4));
              all.pool.contents.name(1, {1, 2}, 2);
            }),
            "key"));
  CHECK(has(fault_after([](sequences& all) { all.pool[0].host = 1; }), "host page"));
  CHECK(has(fault_after([](sequences& all) { all.pool.host.pin(1); }), "host page 1: is pinned"));
  CHECK(has(fault_after([](sequences& all) {
              all.end(0);
              all.pool[2].stamp = 100;
            }),
            "page 2: would be evicted after"));
}

TEST_CASE("a page table allocates nothing once it is made", "[pages]") {
  tpx::page_table<4> table{{.pages = 64, .host_pages = 32, .max_sequences = 4}};
  fake_cache<4> cache{64, 32};
  text prompt = count(1, 70);
  std::size_t const before = allocations;
  for (token_id i = 0; i < 200; ++i) {
    prompt[0] = i % 7;
    prompt[20] = i % 5;
    auto const a = table.open(prompt, 10)->sequence;
    table.prepare(a, 70 - table.length(a));
    table.append(a, std::span{prompt}.subspan(table.length(a)));
    auto const b = table.open(prompt, 10)->sequence;
    static_cast<void>(table.grow(a, 20));
    table.rewind(a, 30);
    table.close(a);
    table.prefetch(prompt);
    table.defragment(5);
    table.carry_out(cache);
    table.close(b);
    table.evicted_done();
  }
  REQUIRE(allocations == before);
}
