// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A JSON schema and, after a zero byte, a text that is offered to it byte by byte.
#include "fuzz.hpp"
#include "fuzz_filter.hpp"

#include <tpx/generator/json_schema_filter.hpp>

std::vector<std::string> fuzz::seeds() {
  std::string const zero(1, '\0');
  return {
    "{}" + zero + R"({"a":[1,-2.5e3,null,{"b":"c\u00e9"}]})",
    R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"enum":["x",null,[1]]}},)"
    R"("required":["b"],"additionalProperties":{"const":0}})" +
      zero + R"({"a":1,"b":"x","ab":0})",
    R"({"type":"array","items":{"anyOf":[{"$ref":"#"},{"type":["string","null"],"maxLength":4}]},)"
    R"("minItems":1,"maxItems":3})" +
      zero + R"([["a"],null])",
    R"({"$ref":"#/$defs/t","$defs":{"t":{"properties":{"l":{"$ref":"#/$defs/t"}},)"
    R"("additionalProperties":false,"type":"object"}}})" +
      zero + R"({"l":{"l":{}}})",
    R"({"type":"string","pattern":"^[a-c]+\\d{2}|x","title":"t"})" + zero + R"("ab12")",
    R"({"oneOf":[true,false],"default":1})" + zero + "1"};
}

std::vector<std::string> fuzz::words() {
  return {"\"type\":",
          "\"object\"",
          "\"array\"",
          "\"string\"",
          "\"number\"",
          "\"integer\"",
          "\"properties\":",
          "\"required\":",
          "\"anyOf\":",
          "\"oneOf\":",
          "\"enum\":",
          "\"const\":",
          "\"$ref\":\"#\"",
          "\"$defs\":",
          "\"items\":",
          "\"minItems\":2",
          "\"maxItems\":9",
          "\"pattern\":",
          "\"maxLength\":30",
          "\"additionalProperties\":",
          "true",
          "false",
          "null",
          "[[[[[[[[",
          "{\"items\":",
          "\\u0000",
          "\\ud83d\\ude00",
          "\xff",
          "1e9",
          "#/$defs/t",
          ",",
          "{}"};
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const input{reinterpret_cast<char const*>(data), size};
  auto const end = std::min(input.find('\0'), input.size());
  try {
    tpx::json_schema_filter filter{fuzz::trie(), input.substr(0, end), fuzz::tight()};
    fuzz::follow(filter, input.substr(std::min(end + 1, input.size())));
  } catch (tpx::error const&) {}
  return 0;
}
