// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/generator/job_channel.hpp>

#include <catch2/catch_test_macros.hpp>

#include <thread>

namespace {

using namespace tpx;

constexpr std::chrono::milliseconds no_time{0};

struct source {
  std::shared_ptr<std::atomic<std::size_t>> cancels = std::make_shared<std::atomic<std::size_t>>(0);
  std::shared_ptr<detail::job_channel> channel = std::make_shared<detail::job_channel>(
    7, detail::output_room{.sequences = 2, .tokens = 10}, nullptr, cancels);
  job_metrics metrics = {};

  void say(std::size_t sequence, std::string_view text, std::vector<token_id> const& tokens,
           finish_reason reason = finish_reason::none, std::string_view error = {}) {
    channel->add({7, sequence, text, tokens, {}, {}, {}, reason, error, metrics});
  }
};

TEST_CASE("a job's user gets every piece once, of any of its sequences") {
  source s;
  job const j{s.channel};
  REQUIRE(j.id() == 7);
  REQUIRE(!j.next(no_time));
  s.say(0, "a", {1});
  s.say(1, "x", {2, 3});
  s.say(0, "b", {4});
  auto const first = j.next(no_time);
  REQUIRE(first->sequence == 0);
  REQUIRE(first->text == "ab");
  REQUIRE(first->tokens == std::vector<token_id>{1, 4});
  REQUIRE(j.next(no_time)->text == "x");
  REQUIRE(!j.next(no_time));
  REQUIRE(!j.done());
  s.say(1, "", {}, finish_reason::stop_string);
  REQUIRE(j.next(no_time)->reason == finish_reason::stop_string);
  REQUIRE(!j.next(no_time));
  s.say(0, "c", {5}, finish_reason::failed, "why");
  auto const last = j.next(no_time);
  REQUIRE(last->text == "c");
  REQUIRE(last->error == "why");
  REQUIRE(j.done());
  REQUIRE(!j.next(std::chrono::hours{1}));  // at once: all has been told
  auto const all = j.wait(no_time);
  REQUIRE(all[0].text == "abc");
  REQUIRE(all[1].tokens == std::vector<token_id>{2, 3});
}

TEST_CASE("a user who waits is woken by news, and cancelling is seen") {
  source s;
  job const j{s.channel};
  std::jthread const speaker{[&] {
    while (!s.channel->cancelled()) { std::this_thread::yield(); }
    s.say(0, "a", {1}, finish_reason::cancelled);
    s.say(1, "", {}, finish_reason::cancelled);
  }};
  j.cancel();
  REQUIRE(*s.cancels == 1);
  REQUIRE(j.next(std::chrono::minutes{1})->text == "a");
  REQUIRE(j.wait(std::chrono::minutes{1})[1].reason == finish_reason::cancelled);
}

TEST_CASE("every reason has a name") {
  REQUIRE(name(finish_reason::none) == "none");
  REQUIRE(name(finish_reason::filter_finished) == "filter_finished");
  REQUIRE(name(finish_reason::failed) == "failed");
}

}  // namespace
