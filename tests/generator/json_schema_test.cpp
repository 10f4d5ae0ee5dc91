// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "vocabularies.hpp"

#include <tpx/generator/filter.hpp>
#include <tpx/generator/json_schema_filter.hpp>

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

namespace {

using namespace vocabularies;

static_assert(tpx::filter<tpx::json_schema_filter>);

std::shared_ptr<tpx::token_trie const> bytes_only() {
  rng none{1};
  static auto const trie = std::make_shared<tpx::token_trie const>(some(none, {"a"}, {}, 0));
  return trie;
}

/// Whether the filter takes the text, byte by byte, and is finished.
bool matches(tpx::json_schema_filter filter, std::string_view text) {
  for (char const c : text) {
    try {
      filter.accept(2 + static_cast<unsigned char>(c));
    } catch (tpx::error const&) { return false; }
  }
  return filter.finished();
}

bool matches(std::string_view schema, std::string_view text) {
  return matches(tpx::json_schema_filter{bytes_only(), schema}, text);
}

}  // namespace

TEST_CASE("an empty schema lets all of JSON pass", "[json_schema]") {
  for (std::string_view const text : {R"(null)", R"(true)", R"(-1.5e+3)", R"("a\"\u00e9\ud83d\ude00é")", R"([])", R"({})", R"([1, [2, {"a": [ ]}]])", R"({"a":{"b":[{"c":0}]}, "d" : "e"})"}) {
    INFO(text);
    REQUIRE(matches("{}", text));
    REQUIRE(matches("true", text));
  }
  for (std::string_view const text : {"nul", "01", "1.", "\"\n\"", "[1,]", "{\"a\"}", "[}", "{]", "[[]", "\"\\ud800\"", "\"\\x\"", "{a:1}"}) {
    INFO(text);
    REQUIRE(!matches("{}", text));
  }
}
