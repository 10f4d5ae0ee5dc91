// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "plain_pages.hpp"

#include <tpx/generator/batch.hpp>
#include <tpx/generator/scheduler.hpp>

#include <catch2/catch_test_macros.hpp>

#include <memory>
#include <thread>
#include <vector>

namespace {

using namespace tpx;
using pages_t = fake::plain_pages<4>;
using run_t = detail::scheduled_run;
using scheduler_t = detail::scheduler<pages_t, run_t>;

/// A run of `tokens` tokens in each of `contexts` contexts, that wants `left` more.
std::unique_ptr<run_t> make(int priority, std::size_t tokens, std::size_t left,
                            std::size_t contexts = 1) {
  auto run = std::make_unique<run_t>();
  run->place.priority = priority;
  run->contexts.resize(contexts);
  for (auto& c : run->contexts) { c.tokens.assign(tokens, 7); }
  run->left = left;
  run->most_room = 8;
  return run;
}

auto const any = [](run_t&) { return true; };

TEST_CASE("what is posted to an inbox is taken once and in order") {
  detail::inbox<int> box;
  std::vector<int> taken;
  auto const take = [&](int i) { taken.push_back(i); };
  box.drain(take);
  REQUIRE(taken.empty());
  std::jthread const poster{[&] {
    for (int i = 0; i < 1000; ++i) { box.post(i); }
  }};
  while (taken.size() < 1000) {
    box.wait();
    box.drain(take);
  }
  for (int i = 0; i < 1000; ++i) { REQUIRE(taken[static_cast<std::size_t>(i)] == i); }
}

TEST_CASE("the largest priority is first, within one the first come") {
  pages_t pages{{.pages = 4, .host_pages = 0, .max_sequences = 9}};
  scheduler_t s{pages};
  std::vector<run_t*> runs;
  for (int const priority : {1, 3, 1, 2, 3}) {
    auto run = make(priority, 2, 2);
    runs.push_back(run.get());
    s.enqueue(std::move(run));
  }
  std::vector<std::size_t> const order{1, 4, 3, 0, 2};
  for (std::size_t i = 0; i < order.size(); ++i) {
    REQUIRE(s.waiting()[i].get() == runs[order[i]]);
  }
}

TEST_CASE("runs are admitted in order as long as there are pages for tokens and room") {
  pages_t pages{{.pages = 10, .host_pages = 0, .max_sequences = 9}};
  scheduler_t s{pages};
  s.enqueue(make(0, 9, 100));  // and room for 8, the last of which is not fed: 4 pages
  s.enqueue(make(0, 9, 100));
  s.enqueue(make(0, 9, 100));
  s.enqueue(make(0, 1, 1));  // would fit, but is not first
  s.admit(any);
  REQUIRE(s.running().size() == 2);
  REQUIRE(s.waiting().size() == 2);
  static_cast<void>(s.release(*s.running().front()));
  s.admit(any);
  REQUIRE(s.running().size() == 3);
}

TEST_CASE("the last of the lowest priority makes way for a higher one, and keeps its place") {
  pages_t pages{{.pages = 8, .host_pages = 0, .max_sequences = 9}};
  scheduler_t s{pages};
  s.enqueue(make(1, 9, 100));
  s.enqueue(make(0, 9, 100));
  s.admit(any);
  run_t* const last = s.running().back().get();
  s.enqueue(make(0, 1, 1));
  s.enqueue(make(2, 9, 100));
  s.admit(any);
  REQUIRE(s.running().size() == 2);
  REQUIRE(s.running().front()->place.priority == 2);
  REQUIRE(s.running().back()->place.priority == 1);
  REQUIRE(s.waiting().front().get() == last);
  s.enqueue(make(1, 9, 100));  // as important as one that runs: waits
  s.admit(any);
  REQUIRE(s.running().size() == 2);
}

TEST_CASE("nobody makes way for a run that would not fit even then") {
  pages_t pages{{.pages = 12, .host_pages = 0, .max_sequences = 9}};
  scheduler_t s{pages};
  s.enqueue(make(2, 9, 100));  // 4 pages each
  s.enqueue(make(0, 9, 100));
  s.enqueue(make(1, 9, 100));
  s.admit(any);
  REQUIRE(s.running().size() == 3);
  s.enqueue(make(2, 29, 100));  // 9 pages
  s.admit(any);
  REQUIRE(s.running().size() == 3);
  run_t& waits = *s.waiting().front();
  static_cast<void>(s.remove(waits));
  s.enqueue(make(2, 21, 100));  // 7 pages
  s.admit(any);
  REQUIRE(s.running().size() == 2);
  REQUIRE(s.waiting().size() == 2);
  for (auto const& run : s.waiting()) { REQUIRE(run->preemptions == 1); }
  for (auto const& run : s.running()) { REQUIRE(run->preemptions == 0); }
}

TEST_CASE("a run that was refused is tried again when pages have come free, and not before") {
  pages_t pages{{.pages = 10, .host_pages = 0, .max_sequences = 9}};
  scheduler_t s{pages};
  for (int i = 0; i < 3; ++i) { s.enqueue(make(0, 9, 100)); }
  s.admit(any);
  REQUIRE(s.running().size() == 2);
  auto const tries = pages.tries;
  for (int i = 0; i < 100; ++i) { s.admit(any); }
  REQUIRE(pages.tries == tries);
  s.enqueue(make(1, 9, 100));  // another one is first now: it is tried, and one makes way
  s.admit(any);
  REQUIRE(s.running().front()->place.priority == 1);
  auto const more = pages.tries;
  REQUIRE(more > tries);
  s.admit(any);
  static_cast<void>(s.release(*s.running().front()));
  s.admit(any);
  REQUIRE(s.running().size() == 2);
  REQUIRE(pages.tries <= more + 3);
}

TEST_CASE("a run without room gets more, or waits behind those who came since") {
  pages_t pages{{.pages = 8, .host_pages = 0, .max_sequences = 9}};
  scheduler_t s{pages};
  s.enqueue(make(1, 9, 100));
  s.admit(any);
  run_t& run = *s.running().front();
  run.room = 0;
  s.extend(run);
  REQUIRE(run.room == 8);
  REQUIRE(s.running().size() == 1);
  s.enqueue(make(1, 9, 100));
  s.extend(run);
  REQUIRE(s.running().empty());
  REQUIRE(s.waiting().back().get() == &run);
  REQUIRE(run.requeues == 1);
  REQUIRE(run.preemptions == 0);
}

TEST_CASE("a step takes decodes first, then prompts, and a run's contexts end together") {
  pages_t pages{{.pages = 100, .host_pages = 0, .max_sequences = 9}};
  scheduler_t s{pages};
  s.enqueue(make(0, 30, 5));
  s.enqueue(make(0, 20, 5, 2));
  s.enqueue(make(0, 10, 5));
  s.admit(any);
  auto& long_one = *s.running()[0];
  auto& guided = *s.running()[1];
  auto& decoding = *s.running()[2];
  decoding.contexts[0].cached = 9;
  detail::batch<pages_t, run_t> batch{9};
  REQUIRE(batch.share(s.running(), 64) == 0);  // a prompt waits: no drafts
  batch.gather(s.running(), pages);
  std::size_t tokens = 0;
  for (auto const& part : batch.parts()) { tokens += part.tokens.size(); }
  REQUIRE(tokens == 64);
  REQUIRE(decoding.rows == 1);
  REQUIRE(long_one.contexts[0].planned == 30);
  REQUIRE(long_one.rows == 1);
  REQUIRE(guided.rows == 0);  // 33 of 40 are left: both could not come to their ends
  REQUIRE(guided.contexts[0].planned == 19);
  REQUIRE(guided.contexts[1].planned == 14);
  REQUIRE(batch.parts().size() == 4);
  guided.contexts[0].cached = 19;
  guided.contexts[1].cached = 14;
  long_one.contexts[0].cached = 29;
  REQUIRE(batch.share(s.running(), 64) == 64 - 1 - 1 - 7);
  batch.gather(s.running(), pages);
  REQUIRE(guided.rows == 1);
  REQUIRE(batch.most_draft(decoding, 100) == 4);  // 5 are left, one of which is sure
  REQUIRE(batch.most_draft(guided, 4) == 2);
}

}  // namespace
