// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "vocabularies.hpp"

#include <tpx/generator/filter.hpp>
#include <tpx/generator/json_schema_filter.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <regex>
#include <stdexcept>

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

using json = nlohmann::ordered_json;

// --- an oracle: does a value fit a schema? ---

bool fits(json const& schema, json const& root, json const& value);

std::size_t characters(std::string const& text) {
  return static_cast<std::size_t>(
    std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

bool is_type(std::string const& type, json const& value) {
  return (type == "null" && value.is_null()) || (type == "boolean" && value.is_boolean()) ||
         (type == "integer" && value.is_number_integer()) ||
         (type == "number" && value.is_number()) || (type == "string" && value.is_string()) ||
         (type == "array" && value.is_array()) || (type == "object" && value.is_object());
}

bool object_fits(json const& schema, json const& root, json const& value) {
  auto const properties = schema.value("properties", json::object());
  for (auto const& name : schema.value("required", json::array())) {
    if (!value.contains(name.get<std::string>())) { return false; }
  }
  for (auto const& [name, item] : value.items()) {
    auto const& of = properties.contains(name) ? properties[name]
                                               : schema.value("additionalProperties", json(true));
    if (!fits(of, root, item)) { return false; }
  }
  return true;
}

bool fits(json const& schema, json const& root, json const& value) {
  if (schema.is_boolean()) { return schema.get<bool>(); }
  if (schema.contains("$ref")) {
    return fits(root.at(json::json_pointer{schema["$ref"].get<std::string>().substr(1)}), root,
                value);
  }
  if (schema.contains("type")) {
    auto const& type = schema["type"];
    auto const types = type.is_array() ? type : json::array({type});
    if (std::none_of(types.begin(), types.end(), [&](auto const& t) {
          return is_type(t.template get<std::string>(), value);
        })) {
      return false;
    }
  }
  if (schema.contains("const") && schema["const"] != value) { return false; }
  for (auto const* const choice : {"enum", "anyOf", "oneOf"}) {
    if (!schema.contains(choice)) { continue; }
    auto const& all = schema[choice];
    if (std::none_of(all.begin(), all.end(), [&](auto const& one) {
          return std::string{choice} == "enum" ? one == value : fits(one, root, value);
        })) {
      return false;
    }
  }
  if (value.is_string()) {
    auto const n = characters(value);
    return n >= schema.value("minLength", std::size_t{0}) &&
           n <= schema.value("maxLength", ~std::size_t{0}) &&
           std::regex_search(value.get<std::string>(), std::regex{schema.value("pattern", "")});
  }
  if (value.is_array()) {
    return value.size() >= schema.value("minItems", std::size_t{0}) &&
           value.size() <= schema.value("maxItems", ~std::size_t{0}) &&
           std::all_of(value.begin(), value.end(), [&](auto const& item) {
             return fits(schema.value("items", json(true)), root, item);
           });
  }
  return !value.is_object() || object_fits(schema, root, value);
}

// --- random schemas, and texts that fit them ---

json random_schema(rng& from, int depth);

json random_object_schema(rng& from, int depth) {
  constexpr char const* names[]{"a", "ab", "b", "né", "q\"\\", "long name", "x/y~z"};
  json schema{{"type", "object"}};
  for (auto const* const name : names) {
    if (below(from, 3) != 0) { continue; }
    schema["properties"][name] = random_schema(from, depth - 1);
    if (below(from, 2) == 0) { schema["required"].push_back(name); }
  }
  if (below(from, 8) == 0) { schema["required"].push_back("unheard of"); }
  switch (below(from, 4)) {
    case 0:
      break;
    case 1:
      schema["additionalProperties"] = random_schema(from, depth - 1);
      break;
    default:
      schema["additionalProperties"] =
        schema.value("required", json::array()).dump().find("unheard") != std::string::npos;
      break;
  }
  return schema;
}

/// Refers to #/$defs/tree at times, so that texts nest without end.
json random_schema(rng& from, int depth) {
  switch (below(from, depth > 0 ? 13 : 7)) {
    case 0:
      return {{"type", "null"}};
    case 1:
      return {{"type", "boolean"}, {"description", "yes or no"}};
    case 2:
      return {{"type", below(from, 2) == 0 ? "integer" : "number"}};
    case 3:
      return {
        {"enum", {1, -2.5, "x", "né\n", nullptr, {1, {{"k", json::array()}}}, json::object()}}};
    case 4:
      return {{"const", "fixed"}};
    case 5: {
      auto const min = below(from, 3);
      return {{"type", "string"}, {"minLength", min}, {"maxLength", min + below(from, 5)}};
    }
    case 6: {
      constexpr char const* patterns[]{"^[a-c]{2,4}$", "b", "^x|y$", "^\\d+(-\\w*)?$"};
      return {{"type", "string"}, {"pattern", patterns[below(from, 4)]}};
    }
    case 7: {
      json schema{{"type", "array"}, {"items", random_schema(from, depth - 1)}};
      if (below(from, 2) == 0) { schema["minItems"] = below(from, 3); }
      if (below(from, 2) == 0) { schema["maxItems"] = 2 + below(from, 3); }
      return schema;
    }
    case 8:
      return {
        {"anyOf",
         {random_schema(from, 0), random_schema(from, depth - 1), random_schema(from, depth - 1)}}};
    case 9:
      return {{"type", {"string", "integer", "array"}}, {"items", random_schema(from, depth - 1)}};
    case 10:
      return {{"$ref", "#/$defs/tree"}};
    default:
      return random_object_schema(from, depth);
  }
}

json random_root(rng& from) {
  auto root = random_object_schema(from, 3);
  root["$defs"]["tree"] = {{"type", "object"},
                           {"properties",
                            {{"v", {{"type", "integer"}}},
                             {"l", {{"$ref", "#/$defs/tree"}}},
                             {"r", {{"anyOf", {{{"type", "null"}}, {{"$ref", "#/$defs/tree"}}}}}}}},
                           {"required", {"v"}},
                           {"additionalProperties", false}};
  return root;
}

/// Writes texts that fit a schema, with any spacing and any spelling of strings that JSON lets.
class writer {
 public:
  writer(json const& root, rng& from) : root_{root}, from_{from} {}

  std::string operator()(json const& schema, int depth) {
    if (schema.is_boolean() || schema.empty()) { return depth > 0 ? "{\"free\":[0.5e-1]}" : "0"; }
    if (schema.contains("$ref")) {
      return (*this)(root_.at(json::json_pointer{schema["$ref"].get<std::string>().substr(1)}),
                     depth);
    }
    if (schema.contains("const")) { return literal(schema["const"]); }
    if (schema.contains("enum")) {
      return literal(schema["enum"][below(from_, schema["enum"].size())]);
    }
    if (schema.contains("anyOf")) {
      return (*this)(schema["anyOf"][depth > 0 ? below(from_, schema["anyOf"].size()) : 0], depth);
    }
    auto const& types = schema["type"];
    auto const type =
      (types.is_array() ? types[below(from_, types.size())] : types).get<std::string>();
    if (type == "array") { return array(schema, depth); }
    if (type == "object") { return object(schema, depth); }
    if (type == "string") { return string(schema); }
    if (type == "boolean") { return below(from_, 2) == 0 ? "true" : "false"; }
    if (type == "integer") { return std::to_string(static_cast<int>(below(from_, 2000)) - 1000); }
    constexpr char const* numbers[]{"0", "-0.5", "12e3", "3.25E-2", "1e+1"};
    return type == "number" ? numbers[below(from_, 5)] : "null";
  }

 private:
  std::string space() {
    constexpr char const* spaces[]{"", "", " ", "\n  ", "\t\r"};
    return spaces[below(from_, 5)];
  }

  std::string literal(json const& value) {
    // The same bytes but for spaces, none of which is in these literals' strings.
    std::string all;
    for (char const c : value.dump()) {
      bool const sign = std::string_view{"{}[]:,"}.find(c) != std::string_view::npos;
      bool const closes = c == '}' || c == ']';
      bool const opens = c == '{' || c == '[';
      all += (sign && !opens ? space() : "") + c + (sign && !closes ? space() : "");
    }
    return all;
  }

  std::string spelled(std::string const& c) {
    char text[16];
    if (below(from_, 3) != 0) { return c; }
    if (c.size() == 1) {
      std::snprintf(text, sizeof(text), below(from_, 2) == 0 ? "\\u%04x" : "\\u%04X",
                    static_cast<unsigned>(c[0]));
      return text;
    }
    return c == "é" ? "\\u00e9" : c == "€" ? "\\u20Ac" : "\\uD83d\\udE00";
  }

  std::string string(json const& schema) {
    std::string all;
    if (schema.contains("pattern")) {
      auto const pattern = schema["pattern"].get<std::string>();
      auto const fitting = pattern == "b"       ? "abc"
                           : pattern == "^x|y$" ? "x\xc3\xa9"
                           : pattern[1] == '['  ? "abca"
                                                : "42-_z";
      for (std::string const c : {fitting}) { all += c; }
      return '"' + all + '"';
    }
    auto const min = schema.value("minLength", std::size_t{0});
    auto const max = schema.value("maxLength", min + 9);
    constexpr char const* chars[]{"a", "}", "é", "€", "😀", "/", " ", "["};
    for (auto n = min + below(from_, max - min + 1); n > 0; --n) {
      all += below(from_, 6) == 0 ? "\\n" : spelled(chars[below(from_, 8)]);
    }
    return '"' + all + '"';
  }

  std::string array(json const& schema, int depth) {
    auto const min = schema.value("minItems", std::size_t{0});
    auto const max = schema.value("maxItems", min + 3);
    std::string all = "[" + space();
    for (std::size_t i = 0, n = depth > 0 ? min + below(from_, max - min + 1) : min; i < n; ++i) {
      all += (i > 0 ? "," + space() : "") + (*this)(schema.value("items", json(true)), depth - 1) +
             space();
    }
    return all + "]";
  }

  std::string object(json const& schema, int depth) {
    auto const required = schema.value("required", json::array());
    auto const properties = schema.value("properties", json::object());
    auto const other = schema.value("additionalProperties", json(true));
    std::string all = "{" + space();
    bool first = true;
    auto const put = [&](std::string const& name, json const& of) {
      all += (first ? "" : "," + space()) + name + space() + ":" + space() +
             (*this)(of, depth - 1) + space();
      first = false;
    };
    auto const is_required = [&](std::string const& name) {
      return std::find(required.begin(), required.end(), name) != required.end();
    };
    for (auto const& [name, of] : properties.items()) {
      if (is_required(name) || (depth > 0 && below(from_, 2) == 0)) { put(json(name).dump(), of); }
    }
    if (is_required("unheard of")) { put("\"unheard of\"", other); }
    if (other != json(false) && depth > 0) {
      for (auto const* const name :
           {"\"abc\"", "\"\"", "\"n\\u00e8\"", "\"\\u0062\\u0062\"", "\"other\""}) {
        if (below(from_, 4) == 0) { put(name, other); }
      }
    }
    return all + "}";
  }

  json const& root_;
  rng& from_;
};

pieces words(rng& from) {
  return some(from,
              {"\"", "{\"", "\":", ", ", "}", "]", "[", "a", "b", " ", "é", "1", "0.", "tr", "ue",
               "\\", "null", "\xc3", "\n"},
              {"true", "false", "null", "\"a\": ", "\", \"", "}}", "]}", "{}", "[]"}, 300);
}

}  // namespace

TEST_CASE("an empty schema lets all of JSON pass", "[json_schema]") {
  for (std::string_view const text :
       {R"(null)", R"(true)", R"(-1.5e+3)", R"("a\"\u00e9\ud83d\ude00é")", R"([])", R"({})",
        R"([1, [2, {"a": [ ]}]])", R"({"a":{"b":[{"c":0}]}, "d" : "e"})"}) {
    INFO(text);
    REQUIRE(matches("{}", text));
    REQUIRE(matches("true", text));
  }
  for (std::string_view const text : {"nul", "01", "1.", "\"\n\"", "[1,]", "{\"a\"}", "[}", "{]",
                                      "[[]", "\"\\ud800\"", "\"\\x\"", "{a:1}"}) {
    INFO(text);
    REQUIRE(!matches("{}", text));
  }
}

TEST_CASE("every text that fits a schema passes, however it is cut into tokens", "[json_schema]") {
  rng from{1};
  auto const vocabulary = words(from);
  auto const trie = std::make_shared<tpx::token_trie const>(vocabulary);
  for (int i = 0; i < (sanitized ? 15 : 150); ++i) {
    auto const schema = random_root(from);
    INFO(schema.dump());
    tpx::json_schema_filter const by_byte{bytes_only(), schema.dump()};
    tpx::json_schema_filter by_token{trie, schema.dump(), {.end_tokens = {0}}};
    for (int n = 0; n < 5; ++n) {
      auto const text = writer{schema, from}(schema, 4);
      INFO(text);
      REQUIRE(fits(schema, schema, json::parse(text)));
      REQUIRE(matches(by_byte, text));
      auto const tokens = tokenised(text, vocabulary, from);
      for (auto const token : tokens) {
        REQUIRE(tpx::mask_allows(mask_of(by_token, vocabulary.size()), token));
        by_token.accept(token);
      }
      REQUIRE(tpx::mask_allows(mask_of(by_token, vocabulary.size()), 0));
      by_token.rewind(tokens.size());
    }
  }
}

TEST_CASE("every text that the masks lead to is JSON that fits the schema", "[json_schema]") {
  rng from{2};
  auto const vocabulary = words(from);
  auto const trie = std::make_shared<tpx::token_trie const>(vocabulary);
  int ended = 0;
  int const walks = sanitized ? 15 : 300;
  for (int i = 0; i < walks; ++i) {
    auto const schema = i % 10 == 0 ? json::object() : random_root(from);
    INFO(schema.dump());
    tpx::json_schema_filter filter{trie, schema.dump(), {.end_tokens = {0}, .max_space = 2}};
    std::string text;
    for (int step = 0; step < 400; ++step) {
      auto const mask = mask_of(filter, vocabulary.size());
      auto next = any_of(mask, from);
      REQUIRE(next >= 0);
      if (step > 25) {
        for (unsigned char const c : {',', ':', '"', ']', '}'}) {
          if (tpx::mask_allows(mask, 2 + c)) { next = 2 + c; }
        }
      }
      if (step > 5 && tpx::mask_allows(mask, 0)) { next = 0; }
      filter.accept(next);
      if (next == 0) { break; }
      text += vocabulary.piece(next);
    }
    if (!filter.finished()) { continue; }
    INFO(text);
    try {
      REQUIRE(fits(schema, schema, json::parse(text)));
    } catch (json::out_of_range const&) { continue; }  // a number past a double's range
    ++ended;
  }
  REQUIRE(ended > walks / 2);
}

TEST_CASE("a mask of JSON has the tokens that fit and no others, and going back undoes all",
          "[json_schema]") {
  rng from{3};
  auto const vocabulary = words(from);
  auto const trie = std::make_shared<tpx::token_trie const>(vocabulary);
  for (int i = 0; i < (sanitized ? 4 : 40); ++i) {
    auto const schema = i % 4 == 0 ? json::object() : random_root(from);
    INFO(schema.dump());
    tpx::json_schema_filter filter{
      trie, schema.dump(), {.end_tokens = {0}, .max_bytes = i % 3 == 0 ? 100'000u : 1u << 26}};
    auto const fresh = filter;
    std::vector<tpx::token_id> tokens;
    for (int step = 0; step < 40; ++step) {
      auto const mask = mask_of(filter, vocabulary.size());
      REQUIRE(mask == brute_mask(filter, vocabulary.size()));
      REQUIRE(tpx::mask_allows(mask, 0) == filter.finished());
      auto const next = any_of(mask, from);
      if (next <= 0 || (below(from, 5) == 0 && !tokens.empty())) {
        auto const n = tokens.empty() ? 0 : 1 + below(from, tokens.size());
        filter.rewind(n);
        tokens.resize(tokens.size() - n);
        auto replayed = fresh;
        for (auto const token : tokens) { replayed.accept(token); }
        REQUIRE(mask_of(filter, vocabulary.size()) == mask_of(replayed, vocabulary.size()));
        continue;
      }
      filter.accept(next);
      tokens.push_back(next);
    }
  }
}

TEST_CASE("all keywords mean what they say", "[json_schema]") {
  REQUIRE(matches(R"({"type":["null","boolean"]})", "true"));
  REQUIRE(!matches(R"({"type":["null","boolean"]})", "1"));
  REQUIRE(matches(R"({"type":"integer"})", "-0"));
  REQUIRE(!matches(R"({"type":"integer"})", "1.0"));
  REQUIRE(matches(R"({"minLength":2,"maxLength":3})", R"("a\u00e9€")"));
  REQUIRE(!matches(R"({"minLength":2,"maxLength":3})", R"("\ud83d\ude00")"));
  REQUIRE(matches(R"({"minLength":2})", "1"));  // of strings alone
  REQUIRE(matches(R"({"type":"string","pattern":"^\\$\\d+$"})", R"("\u002412")"));
  REQUIRE(!matches(R"({"type":"string","pattern":"^\\$\\d+$"})", R"("$12 ")"));
  REQUIRE(matches(R"({"enum":["a\n\"",{"k":[1]}]})", R"("a\n\"")"));
  REQUIRE(matches(R"({"enum":["a\n\"",{"k":[1]}]})", R"({ "k" : [ 1 ] })"));
  REQUIRE(matches(R"({"enum":["a",1],"type":"integer"})", "1"));
  REQUIRE(!matches(R"({"enum":["a",1],"type":"integer"})", R"("a")"));
  REQUIRE(matches(R"({"items":{"type":"integer"},"maxItems":2})", "[1 , 2]"));
  REQUIRE(!matches(R"({"items":{"type":"integer"},"maxItems":2})", "[1,2,3]"));
  REQUIRE(matches(R"({"items":false})", "[]"));
  REQUIRE(!matches(R"({"items":false})", "[1]"));
  REQUIRE(matches(R"({"maxItems":0})", "[ ]"));

  constexpr auto ab = R"({"properties":{"a":{"type":"null"},"ab":true},"required":["ab"]})";
  REQUIRE(matches(ab, R"({"ab":1})"));
  REQUIRE(matches(ab, R"({"a":null,"ab":1,"abc":{}, "":2})"));
  REQUIRE(!matches(ab, R"({"a":null})"));
  REQUIRE(!matches(ab, R"({"ab":1,"a":1})"));
  REQUIRE(!matches(ab, R"({"ab":1,"\u0061":1})"));  // it is a, however it is written
  REQUIRE(matches(ab, R"({"ab":1,"\u0062":1})"));
  REQUIRE(!matches(R"({"properties":{"a":true},"additionalProperties":false})", R"({"b":1})"));
  REQUIRE(matches(R"({"additionalProperties":{"type":"null"}})", R"({"b":null,"c":null})"));
  REQUIRE(!matches(R"({"additionalProperties":{"type":"null"}})", R"({"b":1})"));

  constexpr auto nested =
    R"({"$ref":"#/$defs/x~1y","$defs":{"x/y":{"type":"array","items":{"$ref":"#"}}}})";
  REQUIRE(matches(nested, "[[],[[[]]]]"));
  REQUIRE(!matches(nested, "[[],[[1]]]"));
  std::string const deep(20'000, '[');
  REQUIRE(matches(nested, deep + std::string(20'000, ']')));
}

TEST_CASE("whitespace stands where it may, and no more of it than asked for", "[json_schema]") {
  auto const with = [](std::size_t most, std::string_view text) {
    return matches(tpx::json_schema_filter{bytes_only(), "{}", {.max_space = most}}, text);
  };
  REQUIRE(with(0, R"({"a":[1,2]})"));
  REQUIRE(!with(0, R"({"a": [1,2]})"));
  REQUIRE(with(1, R"({"a": [1, 2]})"));
  REQUIRE(!with(1, R"({"a":  [1,2]})"));
  REQUIRE(matches("{}", "{ \"a\"\n:\t[ 1\r\n, 2 ] }"));
  REQUIRE(!matches("{}", " 1"));
  REQUIRE(!matches("{}", "1 "));
}

TEST_CASE("what is wrong with a schema is told with its place", "[json_schema]") {
  auto const refusal = [](std::string_view schema) -> std::string {
    try {
      tpx::json_schema_filter const filter{bytes_only(), schema, {.max_states = 5000}};
    } catch (tpx::error const& e) {
      REQUIRE(e.code() == tpx::errc::invalid_argument);
      return e.what();
    }
    return "none";
  };
  auto const says = [&](std::string_view schema, std::string_view what) {
    INFO(schema << ": " << refusal(schema));
    return refusal(schema).find(what) != std::string::npos;
  };
  REQUIRE(says("", "JSON schema, byte 0: a value or a digit is missing"));
  REQUIRE(says("{} x", "byte 3: something behind the end"));
  REQUIRE(says("{\"a\":1,\"a\":2}", "the name \"a\" twice"));
  REQUIRE(says("\"\xff\"", "byte 1: not UTF-8"));
  REQUIRE(says("\"\\ud800x\"", "byte 7: half of a surrogate pair"));
  REQUIRE(says("\"a", "byte 2: a string without its \""));
  REQUIRE(says(std::string(1000, '['), "byte 101: nested more than 100 deep"));
  REQUIRE(says("3", "#: a schema that is neither"));
  REQUIRE(says(R"({"properties":{"a":{"minimum":3}}})",
               "#/properties/a/minimum: this keyword is not supported"));
  REQUIRE(says(R"({"items":{"anyOf":[{},{"uniqueItems":true}]}})", "#/items/anyOf/1/uniqueItems"));
  REQUIRE(says(R"({"type":"text"})", "#/type: \"text\" is no type"));
  REQUIRE(says(R"({"type":3})", "#/type: not an array"));
  REQUIRE(says(R"({"required":[1]})", "#/required: not an array of strings"));
  REQUIRE(says(R"({"maxLength":-1})", "#/maxLength: not a whole number"));
  REQUIRE(says(R"({"minItems":1e9})", "#/minItems: not a whole number"));
  REQUIRE(says(R"({"pattern":"a("})", "#/pattern, byte 2: a group without its )"));
  REQUIRE(says(R"({"pattern":"a","maxLength":2})", "#/maxLength: not supported beside pattern"));
  REQUIRE(says(R"({"anyOf":[{}],"type":"null"})", "#: type is not supported beside anyOf"));
  REQUIRE(says(R"({"$ref":"#/a"})", "#/$ref: there is nothing at #/a"));
  REQUIRE(says(R"({"$ref":"http://x"})", "#/$ref: only references within the schema"));
  REQUIRE(says(R"({"anyOf":[{"$ref":"#"}]})", "does it refer to itself?"));
  REQUIRE(says("false", "no text fits"));
  REQUIRE(says(R"({"type":"array","minItems":1,"items":{"$ref":"#"}})", "no text fits"));
  REQUIRE(says(R"({"type":"string","maxLength":1000})", "more than 5000 states"));
  // Two references each to the next of 40: 2^40 ways.
  std::string wide = R"({"$ref":"#/$defs/0","$defs":{)";
  for (int i = 0; i < 40; ++i) {
    auto const next = R"({"$ref":"#/$defs/)" + std::to_string(i + 1) + "\"}";
    wide += '"' + std::to_string(i) + R"(":{"anyOf":[)" + next + "," + next + "]},";
  }
  REQUIRE(says(wide + R"("40":false}})", "more than 5000 states"));
}
