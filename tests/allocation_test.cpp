// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"
#include "world.hpp"

#include <tpx/allgather.hpp>
#include <tpx/allreduce.hpp>
#include <tpx/barrier.hpp>
#include <tpx/broadcast.hpp>
#include <tpx/gather.hpp>
#include <tpx/reduce_scatter.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

TEMPLATE_LIST_TEST_CASE("no collective allocates", "[allocation]", world::communicators) {
  using namespace world;
  notes found;
  on_ranks(3, [&](group& g) {
    TestType comm{g};
    for (std::size_t const n : {std::size_t{1}, std::size_t{500}, std::size_t{30000}}) {
      std::vector<float> x(n, 1.0f);
      std::vector<float> all(3 * n);
      auto const expect_none = [&](char const* what, auto&& call) {
        call();
        auto const before = allocations;
        for (int i = 0; i < 20; ++i) { call(); }
        if (allocations != before) {
          found.add(std::string{what} + " allocated " + std::to_string(allocations - before) +
                    " times in 20 calls");
        }
      };
      expect_none("allreduce", [&] { allreduce(comm, x, Max{}); });
      expect_none("broadcast", [&] { broadcast(comm, x, 1); });
      expect_none("allgather", [&] { allgather(comm, x, all); });
      expect_none("gather", [&] { gather(comm, x, all, 2); });
      expect_none("reduce_scatter", [&] { reduce_scatter(comm, all, x); });
      expect_none("barrier", [&] { barrier(comm); });
      expect_none("decide", [&] { (void)g.decide(7, 1); });
      expect_none("agree", [&] { (void)g.agree(7); });
    }
  });
  REQUIRE(found.all() == "");
}
