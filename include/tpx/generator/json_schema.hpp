// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/grammar_nfa.hpp>
#include <tpx/generator/json_grammar.hpp>
#include <tpx/generator/json_schema_place.hpp>
#include <tpx/generator/json_text.hpp>
#include <tpx/generator/regex_syntax.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

/// Makes an automaton of a JSON schema (drafts 2019-09 and 2020-12; see json_schema_filter for what
/// is known of them).
class json_schema {
 public:
  /// Adds the texts that fit `root` to `nfa`.
  static void compile(json_value const& root, grammar_nfa& nfa, std::size_t most_space) {
    json_schema schema{root, nfa, most_space};
    schema.value({&root, "#"}, grammar_nfa::start, grammar_nfa::accept, 0);
    while (!schema.todo_.empty()) {
      auto const next = schema.todo_.back();
      schema.todo_.pop_back();
      next.is_object ? schema.object_body(next.at, next.begin)
                     : schema.array_body(next.at, next.begin);
    }
  }

 private:
  using kind = json_value::kind;
  using state = grammar_nfa::state;
  using place = json_schema_place;

  static constexpr std::size_t no_limit = json_grammar::no_limit;
  static constexpr int deepest = 100;

  struct body {
    place at;
    bool is_object;
    state begin;
  };

  json_schema(json_value const& root, grammar_nfa& nfa, std::size_t most_space)
      : root_{root}, nfa_{nfa}, json_{nfa, most_space} {}

  /// A value that fits, from one state to another; `depth` counts up to the next object or array.
  void value(place const& at, state from, state to, int depth) {
    if (depth > deepest) {
      at.fail("more than " + std::to_string(deepest) +
              " references and choices deep, with no object or array between; does it refer to "
              "itself?");
    }
    // A state each time, so that the limit on states ends what would go on for too long.
    auto const begin = nfa_.add();
    nfa_.empty(from, begin);
    if (at.part->what == kind::boolean) {
      if (at.part->text == "true") {
        value({&place::anything(), at.pointer}, begin, to, depth + 1);
      }
      return;
    }
    at.expect(kind::object, "a schema that is neither an object nor a boolean");
    at.expect_known();
    for (std::string const name : {"$ref", "anyOf", "oneOf", "enum", "const"}) {
      if (auto const found = at.member(name)) {
        at.expect_alone(name);
        return alternatives(at, name, *found, begin, to, depth + 1);
      }
    }
    for (auto const& type : at.types()) { typed(at, type, begin, to); }
  }

  void alternatives(place const& at, std::string const& name, place const& found, state from,
                    state to, int depth) {
    if (name == "$ref") { return value(target(found), from, to, depth); }
    if (name == "const") { return literal(at, *found.part, from, to); }
    found.expect(kind::array, "not an array");
    for (std::size_t i = 0; i < found.part->items.size(); ++i) {
      if (name == "enum") {
        literal(at, found.part->items[i], from, to);
      } else {
        value(found.item(i), from, to, depth);
      }
    }
  }

  /// A value of an enum or const, if it is of the types beside that.
  void literal(place const& at, json_value const& of, state from, state to) {
    constexpr std::array<std::string_view, 6> type_names{"null",   "boolean", "number",
                                                         "string", "array",   "object"};
    auto const is = type_names[static_cast<std::size_t>(of.what)];
    bool const whole = is == "number" && of.text.find_first_of(".eE") == of.text.npos;
    auto const allowed = at.types();
    bool const fits = std::ranges::any_of(
      allowed, [&](std::string const& t) { return t == is || (whole && t == "integer"); });
    if (fits) { json_.literal(of, from, to); }
  }

  void typed(place const& at, std::string const& type, state from, state to) {
    if (type == "null") { return nfa_.text(from, "null", to); }
    if (type == "number") { return json_.number(from, to); }
    if (type == "integer") { return json_.integer(from, to); }
    if (type == "object") { return nfa_.open(from, '{', body_of(at, true), to); }
    if (type == "array") { return nfa_.open(from, '[', body_of(at, false), to); }
    if (type == "boolean") {
      nfa_.text(from, "true", to);
      return nfa_.text(from, "false", to);
    }
    auto const pattern = at.member("pattern");
    if (!pattern) {
      return json_.string(at.count("minLength", 0), at.count("maxLength", no_limit), from, to);
    }
    pattern->expect(kind::string, "not a string");
    for (auto const* const other : {"minLength", "maxLength"}) {
      if (auto const length = at.member(other)) { length->fail("not supported beside pattern"); }
    }
    regex_syntax const syntax{pattern->part->text, regex_syntax::matches::part,
                              "JSON schema, " + pattern->pointer};
    json_.string(syntax, from, to);
  }

  /// Where the inside of an object or array begins; made later, and once for each part of the
  /// schema, however often and by whatever way that is come to.
  state body_of(place const& at, bool is_object) {
    auto const [found, is_new] = bodies_.try_emplace({at.part, is_object}, 0);
    if (is_new) {
      found->second = nfa_.add();
      todo_.push_back({at, is_object, found->second});
    }
    return found->second;
  }

  void array_body(place const& at, state begin) {
    auto const min = at.count("minItems", 0);
    auto const max = at.count("maxItems", no_limit);
    auto const items = at.member("items").value_or(place{&place::anything(), at.pointer});
    auto here = nfa_.add();
    json_.space(begin, here);
    for (std::size_t i = 0;; ++i) {
      if (i >= min) { nfa_.close(here, ']'); }
      if (i >= max) { return; }
      auto const one = nfa_.add();
      i == 0 ? nfa_.empty(here, one) : json_.sign(',', here, one);
      auto const behind = nfa_.add();
      value(items, one, behind, 0);
      here = nfa_.add();
      json_.space(behind, here);
      if (max == no_limit && i + 1 >= min) {
        nfa_.close(here, ']');
        return json_.sign(',', here, one);
      }
    }
  }

  /// Members come in the schema's order, then others. Between them the automaton is in one of two
  /// states: nothing was written yet, or a comma is due.
  void object_body(place const& at, state begin) {
    auto const required = at.strings("required");
    auto const other =
      at.member("additionalProperties").value_or(place{&place::anything(), at.pointer});
    std::vector<std::string> known;
    std::vector<place> values;
    if (auto const found = at.member("properties")) {
      found->expect(kind::object, "not an object");
      known = found->part->names;
      for (std::size_t i = 0; i < known.size(); ++i) { values.push_back(found->item(i)); }
    }
    for (auto const& name : required) {
      if (std::ranges::find(known, name) == known.end()) {
        known.push_back(name);
        values.push_back(other);
      }
    }
    auto none_yet = nfa_.add();
    auto after_some = nfa_.add();
    json_.space(begin, none_yet);
    auto const entry = [&] {
      auto const first = nfa_.add();
      nfa_.empty(none_yet, first);
      json_.sign(',', after_some, first);
      return first;
    };
    auto const member_value = [&](place const& of, state from, state to) {
      auto const behind = nfa_.add();
      value(of, from, behind, 0);
      json_.space(behind, to);
    };
    for (std::size_t i = 0; i < known.size(); ++i) {
      auto const first = entry();
      auto const written = nfa_.add();
      auto const next_none_yet = nfa_.add();
      auto const of = nfa_.add();
      json_.name(known[i], first, of);
      member_value(values[i], of, written);
      if (std::ranges::find(required, known[i]) == required.end()) {
        nfa_.empty(none_yet, next_none_yet);
        nfa_.empty(after_some, written);
      }
      none_yet = next_none_yet;
      after_some = written;
    }
    auto const first = entry();
    auto const named = nfa_.add();
    auto const of = nfa_.add();
    json_.other_string(known, first, named);
    json_.colon(named, of);
    member_value(other, of, after_some);
    nfa_.close(none_yet, '}');
    nfa_.close(after_some, '}');
  }

  /// What a $ref refers to: # or # and a JSON pointer (RFC 6901).
  [[nodiscard]] place target(place const& reference) const {
    reference.expect(kind::string, "not a string");
    std::string_view rest = reference.part->text;
    if (rest != "#" && !rest.starts_with("#/")) {
      reference.fail("only references within the schema, # or #/..., are supported");
    }
    rest.remove_prefix(1);
    auto const* here = &root_;
    while (!rest.empty()) {
      auto const end = std::min(rest.find('/', 1), rest.size());
      auto const step = rest.substr(1, end - 1);
      rest.remove_prefix(end);
      json_value const* next = nullptr;
      for (std::size_t i = 0; i < here->items.size() && next == nullptr; ++i) {
        auto const name =
          here->what == kind::object ? place::escaped(here->names[i]) : std::to_string(i);
        if (name == step) { next = &here->items[i]; }
      }
      if (next == nullptr) { reference.fail("there is nothing at " + reference.part->text); }
      here = next;
    }
    return {here, reference.part->text};
  }

  json_value const& root_;
  grammar_nfa& nfa_;
  json_grammar json_;
  std::map<std::pair<json_value const*, bool>, state> bodies_;
  std::vector<body> todo_;
};

}  // namespace tpx::detail
