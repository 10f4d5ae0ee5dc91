// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Pictures of a page table that is in use, one of which is in docs/.
#include "world.hpp"

#include <tpx/generator/page_picture.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace {

using namespace fake;

std::size_t count(std::string const& text, std::string const& part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) { ++n; }
  return n;
}

TEST_CASE("a picture shows what every page of a table in use is") {
  tpx::page_table<4> table{{.pages = 12, .max_sequences = 4}};
  auto const write = [&](std::vector<token_id> const& text, std::size_t room) {
    auto const s = table.open(text, room)->sequence;
    std::vector<token_id> const rest(text.begin() + static_cast<int>(table.length(s)), text.end());
    table.prepare(s, rest.size());
    table.append(s, rest);
    return s;
  };
  table.close(write({9, 9, 9, 9, 9, 9}, 0));  // two pages of cache
  std::vector<token_id> const common{1, 2, 3, 4, 5, 6, 7, 8};
  auto text = common;
  text.push_back(10);
  write(text, 4);  // shares two, writes one, and has claimed another
  text.back() = 11;
  write(text, 0);  // shares the two, and writes one
  auto const picture = tpx::page_picture(table, {.columns = 4, .title = "a <table>"});
  REQUIRE(count(picture, "class=\"shared\"") == 2 + 1);  // and the legend's
  REQUIRE(count(picture, "class=\"writable\"") == 3 + 1);
  REQUIRE(count(picture, "class=\"cached\"") == 2 + 1);
  REQUIRE(count(picture, "class=\"free\"") == 5 + 1);
  REQUIRE(count(picture, ">2</text>") == 2);
  REQUIRE(count(picture, "shared, 4 tokens, 1 pages before") == 1);
  REQUIRE(count(picture, "writable, 1 tokens, 2 pages before") == 2);
  REQUIRE(count(picture, "a &lt;table&gt;") == 1);
}

TEST_CASE("the picture in docs/ is of a generator at work; TPX_WRITE_PICTURE=1 draws it anew") {
  counting_model<16> model{96, 40};
  noisy sampler;
  letters const names{40};
  generator<counting_model<16>> gen{model, sampler, names};
  std::vector<token_id> prompt(100);
  for (std::size_t i = 0; i < prompt.size(); ++i) { prompt[i] = static_cast<token_id>(i % 40); }
  auto const enqueue = [&](std::size_t tokens, int more, token_id first) {
    options job{.prompt = prompt, .max_new_tokens = more, .max_rq_tokens = 48};
    job.prompt.resize(tokens);
    for (auto& t : job.prompt) { t = (t + first) % 40; }
    return gen.enqueue(job);
  };
  enqueue(90, 30, 1);  // these will have ended
  enqueue(60, 10, 7);
  for (int i = 0; i < 2; ++i) { gen.step(); }
  enqueue(90, 60, 0);
  gen.step();
  for (std::size_t i = 0; i < 4; ++i) { enqueue(90 + 2 * i, 60, 0); }  // begin alike
  enqueue(40, 70, 20);
  for (int i = 0; i < 30; ++i) { gen.step(); }
  auto const drawn = tpx::page_picture(
    gen.pages(), {.columns = 24, .title = "six jobs, five of which share a beginning, and cache"});
  REQUIRE(gen.running() == 6);
  std::string const path = TPX_TEST_EXAMPLES "/../docs/page_table.svg";
  if (std::getenv("TPX_WRITE_PICTURE") != nullptr) { std::ofstream{path} << drawn; }
  std::ifstream file{path};
  std::string const shown{std::istreambuf_iterator<char>{file}, {}};
  REQUIRE(shown == drawn);
  REQUIRE(drawn.size() < 20'000);
}

}  // namespace
