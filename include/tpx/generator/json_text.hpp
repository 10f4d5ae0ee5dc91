// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/grammar_utf8.hpp>
#include <tpx/generator/text_cursor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

/// A JSON value; an object keeps its members in the order they were written in.
struct json_value {
  enum class kind : std::uint8_t { null, boolean, number, string, array, object };

  kind what = kind::null;
  std::string text;                // a string's characters; else a number or a word as written
  std::vector<std::string> names;  // an object's
  std::vector<json_value> items;   // an array's, or an object's by name

  [[nodiscard]] json_value const* find(std::string_view name) const {
    auto const at = std::ranges::find(names, name);
    return at == names.end() ? nullptr : &items[static_cast<std::size_t>(at - names.begin())];
  }
};

/// Reads a whole JSON text (RFC 8259, without the liberties it leaves): UTF-8, no name twice in an
/// object, nothing behind the value. Throws invalid_argument with the byte of what is wrong.
class json_reader : text_cursor {
 public:
  json_reader(std::string_view text, std::string_view name) : text_cursor{text, name} {}

  [[nodiscard]] json_value read() {
    auto value = read_value(0);
    skip_space();
    if (!at_end()) { fail("something behind the end"); }
    return value;
  }

 private:
  using kind = json_value::kind;
  static constexpr int deepest = 100;

  json_value read_value(int depth) {
    if (depth > deepest) { fail("nested more than " + std::to_string(deepest) + " deep"); }
    skip_space();
    if (take('{')) { return read_members(depth, kind::object, '}'); }
    if (take('[')) { return read_members(depth, kind::array, ']'); }
    if (take('"')) { return {kind::string, read_string(), {}, {}}; }
    for (std::string_view const word : {"true", "false", "null"}) {
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return {word == "null" ? kind::null : kind::boolean, std::string{word}, {}, {}};
      }
    }
    return {kind::number, read_number(), {}, {}};
  }

  json_value read_members(int depth, kind what, char end) {
    json_value all{what, {}, {}, {}};
    skip_space();
    if (take(end)) { return all; }
    do {
      if (what == kind::object) {
        skip_space();
        expect('"');
        all.names.push_back(read_string());
        skip_space();
        expect(':');
      }
      all.items.push_back(read_value(depth + 1));
      skip_space();
    } while (take(','));
    expect(end);
    auto sorted = all.names;
    std::ranges::sort(sorted);
    auto const twice = std::ranges::adjacent_find(sorted);
    if (twice != sorted.end()) { fail("the name \"" + *twice + "\" twice in an object"); }
    return all;
  }

  std::string read_string() {
    std::string all;
    while (!take('"')) {
      if (!at_end() && static_cast<unsigned char>(text_[at_]) < 0x20) {
        fail("a control character in a string");
      }
      if (take('\\')) {
        write_char(all, read_escape());
        continue;
      }
      auto const c = read_char(text_, at_);
      if (c < 0) { fail(at_end() ? "a string without its \"" : "not UTF-8"); }
      write_char(all, static_cast<char32_t>(c));
    }
    return all;
  }

  char32_t read_escape() {
    constexpr std::string_view letters = "\"\\/bfnrt";
    auto const which = at_end() ? letters.npos : letters.find(text_[at_]);
    if (which != letters.npos) {
      ++at_;
      return static_cast<unsigned char>("\"\\/\b\f\n\r\t"[which]);
    }
    auto const unit = read_unit();
    if (unit < 0xd800 || unit > 0xdfff) { return unit; }
    if (unit > 0xdbff || !take('\\')) { fail("half of a surrogate pair"); }
    auto const low = read_unit();
    if (low < 0xdc00 || low > 0xdfff) { fail("half of a surrogate pair"); }
    return 0x10000 + ((unit & 0x3ff) << 10 | (low & 0x3ff));
  }

  char32_t read_unit() {
    expect('u');
    return hex(4);
  }

  std::string read_number() {
    auto const begin = at_;
    take('-');
    if (!take('0')) { read_digits(); }
    if (take('.')) { read_digits(); }
    if (take('e') || take('E')) {
      if (!take('+')) { take('-'); }
      read_digits();
    }
    return std::string{text_.substr(begin, at_ - begin)};
  }

  void read_digits() {
    auto const begin = at_;
    while (next_is_digit()) { ++at_; }
    if (at_ == begin) { fail("a value or a digit is missing"); }
  }

  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\n\r", at_), text_.size()); }

  void expect(char c) {
    if (!take(c)) { fail(std::string{"a "} + c + " is missing"); }
  }
};

}  // namespace tpx::detail
