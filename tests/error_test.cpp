// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <set>
#include <string>
#include <string_view>

namespace {

std::string in_this_file(int line, std::string const& rest) {
  return "error_test.cpp:" + std::to_string(line) + ": " + rest;
}

TEST_CASE("an error says where it was made, its code and its message") {
  tpx::error const e{tpx::errc::io, "ftruncate failed: No space left on device"};
  int const line = __LINE__ - 1;
  CHECK(e.what() == in_this_file(line, "io: ftruncate failed: No space left on device"));
  CHECK(e.code() == tpx::errc::io);
  CHECK(e.where().line() == static_cast<unsigned>(line));
}

TEST_CASE("an error that knows everything says it in one line and as members") {
  tpx::error const e{tpx::errc::timeout,
                     "waited 5 s for rank 3",
                     {.rank = 2,
                      .peer = 3,
                      .operation = "allreduce(1000 x float32, sum)",
                      .epoch = 17,
                      .remedy = "raise options::deadline"}};
  std::string const said = e.what();
  CHECK(
    said.ends_with("timeout: rank 2: allreduce(1000 x float32, sum) #17: waited 5 s for rank 3 "
                   "(raise options::deadline)"));
  CHECK(said.find('\n') == std::string::npos);
  CHECK(e.rank() == 2);
  CHECK(e.peer() == 3);
  CHECK(e.operation() == "allreduce(1000 x float32, sum)");
  CHECK(e.epoch() == 17);
  CHECK(e.remedy() == "raise options::deadline");
}

TEST_CASE("an error leaves out what it does not know") {
  tpx::error const rank_zero{tpx::errc::left, "returned early", {.rank = 0}};
  CHECK(std::string_view{rank_zero.what()}.ends_with(": left: rank 0: returned early"));
  tpx::error const no_epoch{tpx::errc::mismatch, "sizes differ", {.operation = "barrier"}};
  CHECK(std::string_view{no_epoch.what()}.ends_with(": mismatch: barrier: sizes differ"));
  CHECK(no_epoch.rank() == -1);
  CHECK(no_epoch.peer() == -1);
  CHECK(no_epoch.epoch() == 0);
  CHECK(no_epoch.remedy().empty());
}

TEST_CASE("an epoch without an operation is a member only") {
  tpx::error const e{tpx::errc::stale, "made before reset()", {.epoch = 9}};
  CHECK(std::string_view{e.what()}.ends_with(": stale: made before reset()"));
  CHECK(e.epoch() == 9);
}

TEST_CASE("each error code has a word of its own") {
  std::set<std::string_view> words;
  auto const last = static_cast<std::uint32_t>(tpx::errc::nccl);
  for (std::uint32_t code = 0; code <= last; ++code) {
    words.insert(tpx::name(static_cast<tpx::errc>(code)));
  }
  CHECK(words.size() == last + 1);
  CHECK(!words.contains(""));
  CHECK(tpx::name(tpx::errc::ok) == "ok");
  CHECK(tpx::name(tpx::errc::peer_died) == "peer_died");
  CHECK(tpx::name(tpx::errc::unsupported) == "unsupported");
  CHECK(tpx::name(tpx::errc::nccl) == "nccl");
}

TEST_CASE("expects throws invalid_argument from where it was called unless its condition holds") {
  CHECK_NOTHROW(tpx::expects(true, "never said"));
  int line = 0;
  try {
    line = __LINE__ + 1;
    tpx::expects(3 <= 2, "3 ranks on 2 GPUs", "start 2 ranks");
    FAIL("expects() returned");
  } catch (tpx::error const& e) {
    CHECK(e.code() == tpx::errc::invalid_argument);
    CHECK(e.what() == in_this_file(line, "invalid_argument: 3 ranks on 2 GPUs (start 2 ranks)"));
    CHECK(e.remedy() == "start 2 ranks");
  }
}

TEST_CASE("an error is a std::runtime_error") {
  CHECK_THROWS_AS(tpx::expects(false, "no"), std::runtime_error);
}

}  // namespace
