// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/json_text.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tpx::detail {

/// A part of a JSON schema, what its keywords say, and its JSON pointer for errors.
struct json_schema_place {
  using kind = json_value::kind;

  json_value const* part;
  std::string pointer;

  static constexpr std::size_t most = std::size_t{1} << 20;  // of minItems and the like

  [[noreturn]] void fail(std::string const& what) const {
    throw error{errc::invalid_argument, "JSON schema, " + pointer + ": " + what};
  }

  void expect(kind what, std::string const& otherwise) const {
    if (part->what != what) { fail(otherwise); }
  }

  [[nodiscard]] std::optional<json_schema_place> member(std::string const& name) const {
    auto const* const found = part->find(name);
    if (found == nullptr) { return {}; }
    return json_schema_place{found, pointer + '/' + name};
  }

  [[nodiscard]] json_schema_place item(std::size_t i) const {
    auto const name = part->what == kind::object ? escaped(part->names[i]) : std::to_string(i);
    return {&part->items[i], pointer + '/' + name};
  }

  void expect_known() const {
    constexpr std::array<std::string_view, 15> all{
      "type",     "enum",       "const",     "anyOf",   "oneOf",
      "$ref",     "properties", "required",  "items",   "minItems",
      "maxItems", "minLength",  "maxLength", "pattern", "additionalProperties"};
    for (std::size_t i = 0; i < part->names.size(); ++i) {
      auto const& name = part->names[i];
      if (!is_annotation(name) && std::ranges::find(all, name) == all.end()) {
        item(i).fail("this keyword is not supported");
      }
    }
  }

  /// Expects no keyword beside `name` but annotations and, for values, a type.
  void expect_alone(std::string const& name) const {
    bool const values = name == "enum" || name == "const";
    for (auto const& other : part->names) {
      if (other != name && !is_annotation(other) && !(values && other == "type")) {
        fail(other + " is not supported beside " + name);
      }
    }
  }

  [[nodiscard]] std::vector<std::string> types() const {
    constexpr std::array<std::string_view, 7> all{"null",   "boolean", "integer", "number",
                                                  "string", "array",   "object"};
    auto const found = member("type");
    if (!found) { return {"null", "boolean", "number", "string", "array", "object"}; }
    auto const list =
      found->part->what == kind::string ? std::vector{found->part->text} : strings("type");
    for (auto const& type : list) {
      if (std::ranges::find(all, type) == all.end()) { found->fail("\"" + type + "\" is no type"); }
    }
    return list;
  }

  [[nodiscard]] std::vector<std::string> strings(std::string const& keyword) const {
    std::vector<std::string> all;
    auto const found = member(keyword);
    if (!found) { return all; }
    found->expect(kind::array, "not an array");
    for (auto const& one : found->part->items) {
      if (one.what != kind::string) { found->fail("not an array of strings"); }
      all.push_back(one.text);
    }
    return all;
  }

  [[nodiscard]] std::size_t count(std::string const& keyword, std::size_t otherwise) const {
    auto const found = member(keyword);
    if (!found) { return otherwise; }
    auto const& text = found->part->text;
    bool const whole = found->part->what == kind::number &&
                       text.find_first_not_of("0123456789") == text.npos && text.size() < 8;
    if (!whole || std::stoul(text) > most) {
      found->fail("not a whole number from 0 to " + std::to_string(most));
    }
    return std::stoul(text);
  }

  /// A name as JSON pointers write it (RFC 6901).
  [[nodiscard]] static std::string escaped(std::string_view name) {
    std::string all;
    for (char const c : name) {
      if (c == '~' || c == '/') {
        all += c == '~' ? "~0" : "~1";
      } else {
        all += c;
      }
    }
    return all;
  }

  /// The schema that everything fits.
  [[nodiscard]] static json_value const& anything() {
    static json_value const any{kind::object, {}, {}, {}};
    return any;
  }

  static bool is_annotation(std::string_view name) {
    constexpr std::array<std::string_view, 12> all{
      "title",    "description", "default",  "examples",  "$schema", "$id",
      "$comment", "deprecated",  "readOnly", "writeOnly", "$defs",   "definitions"};
    return std::ranges::find(all, name) != all.end();
  }
};

}  // namespace tpx::detail
