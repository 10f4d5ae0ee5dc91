// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/char_set.hpp>
#include <tpx/generator/grammar_nfa.hpp>
#include <tpx/generator/grammar_spelling.hpp>
#include <tpx/generator/grammar_utf8.hpp>
#include <tpx/generator/text_cursor.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

/// A regular expression as ECMA-262 writes it with its u flag: | ( ) (?: ) [ ] [^ ] . * + ? {m}
/// {m,} {m,n} \d \D \w \W \s \S \t \n \v \f \r \0 \xHH \uHHHH \u{H} and \ before any sign.
/// Characters are code points. A ? after a repetition changes nothing here. There are no
/// references, no look-around and no word borders; ^ and $ may stand at the ends of the
/// alternatives that are in no group.
class regex_syntax : text_cursor {
 public:
  enum class matches : bool { whole, part };

  /// What is wrong is told with `name` and the byte it is at. A text matches as a whole; or, for
  /// `matches::part`, if a part of it does, where no ^ or $ says otherwise.
  regex_syntax(std::string_view text, matches what, std::string_view name)
      : text_cursor{text, name} {
    expect_utf8();
    root_ = alternatives(0, what == matches::part);
    if (!at_end()) { fail("a ) that closes nothing"); }
  }

  /// Adds the automaton from one state to another.
  void compile(grammar_nfa& nfa, spelling how, std::uint32_t from, std::uint32_t to) const {
    compile(root_, nfa, how, from, to);
  }

 private:
  enum class kind : std::uint8_t { chars, sequence, choice, repeat };
  static constexpr std::uint32_t no_limit = ~0u;
  static constexpr std::uint32_t most = 1u << 20;  // of a repetition's numbers
  static constexpr int deepest = 200;

  struct node {
    kind what;
    std::vector<std::uint32_t> parts = {};
    char_set set = {};
    std::uint32_t min = 0;
    std::uint32_t max = 0;
  };

  void compile(std::uint32_t of, grammar_nfa& nfa, spelling how, std::uint32_t from,
               std::uint32_t to) const {
    auto const& n = nodes_[of];
    if (n.what == kind::chars) { return nfa.chars(from, n.set, how, to); }
    if (n.what == kind::choice) {
      for (auto const part : n.parts) { compile(part, nfa, how, from, to); }
      return;
    }
    auto const then = [&](std::uint32_t part) {
      auto const next = nfa.add();
      compile(part, nfa, how, from, next);
      from = next;
    };
    for (auto const part : n.parts) {
      if (n.what == kind::sequence) { then(part); }
      for (std::uint32_t i = 0; i < n.min; ++i) { then(part); }
      if (n.max == no_limit) {
        auto const loop = nfa.add();
        nfa.empty(from, loop);
        compile(part, nfa, how, loop, loop);
        from = loop;
      }
      for (auto i = n.min; i < n.max && n.max != no_limit; ++i) {
        nfa.empty(from, to);
        then(part);
      }
    }
    nfa.empty(from, to);
  }

  std::uint32_t add(node n) {
    nodes_.push_back(std::move(n));
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }

  std::uint32_t alternatives(int depth, bool parts_match) {
    if (depth > deepest) { fail("groups more than " + std::to_string(deepest) + " deep"); }
    node choice{kind::choice};
    do {
      node sequence{kind::sequence};
      if (!(depth == 0 && take('^')) && parts_match) { sequence.parts.push_back(anything()); }
      while (!at_end() && !next_is('|') && !next_is(')') && !next_is('$')) {
        sequence.parts.push_back(repeated(depth));
      }
      if (!(depth == 0 && take('$')) && parts_match) { sequence.parts.push_back(anything()); }
      if (next_is('$')) { fail("a $ inside a group"); }
      if (!at_end() && !next_is('|') && !next_is(')')) { fail("a $ before the end"); }
      choice.parts.push_back(add(std::move(sequence)));
    } while (take('|'));
    return add(std::move(choice));
  }

  std::uint32_t anything() {
    auto const any = add({kind::chars, {}, char_set{{0, last_char}}});
    return add({kind::repeat, {any}, {}, 0, no_limit});
  }

  std::uint32_t repeated(int depth) {
    auto const what = atom(depth);
    std::uint32_t min = 1;
    std::uint32_t max = 1;
    if (take('*')) {
      min = 0, max = no_limit;
    } else if (take('+')) {
      max = no_limit;
    } else if (take('?')) {
      min = 0;
    } else if (take('{')) {
      min = number();
      max = !take(',') ? min : next_is('}') ? no_limit : number();
      if (!take('}')) { fail("a repetition without its }"); }
      if (max < min) { fail("a repetition whose most is less than its least"); }
    } else {
      return what;
    }
    take('?');
    return add({kind::repeat, {what}, {}, min, max});
  }

  std::uint32_t atom(int depth) {
    if (take('(')) {
      if (take('?') && !take(':')) { fail("a group of a kind that is not supported; (?: ) is"); }
      auto const inside = alternatives(depth + 1, false);
      if (!take(')')) { fail("a group without its )"); }
      return inside;
    }
    if (take('[')) { return add({kind::chars, {}, char_class()}); }
    if (take('.')) {
      return add(
        {kind::chars, {}, char_set{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}.complement()});
    }
    if (take('\\')) { return add({kind::chars, {}, escape()}); }
    if (std::string_view{"*+?{}]^"}.find(text_[at_]) != std::string_view::npos) {
      fail(std::string{"a "} + text_[at_] + " without \\ where it means nothing");
    }
    auto const c = any_char();
    return add({kind::chars, {}, char_set{{c, c}}});
  }

  char_set char_class() {
    bool const negated = take('^');
    char_set all;
    while (!take(']')) {
      auto const first = class_atom();
      if (next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        auto const last = class_atom();
        auto const from = one_of(first);
        auto const to = one_of(last);
        if (!from || !to) { fail("a range from or to a class"); }
        if (*to < *from) { fail("a range whose last is before its first"); }
        all.add({*from, *to});
      } else {
        all.add(first);
      }
    }
    return negated ? all.complement() : all;
  }

  char_set class_atom() {
    if (at_end()) { fail("a class without its ]"); }
    if (take('\\')) { return escape(); }
    auto const c = any_char();
    return {{c, c}};
  }

  static std::optional<char32_t> one_of(char_set const& set) {
    auto const ranges = set.ranges();
    if (ranges.size() != 1 || ranges[0].first != ranges[0].last) { return {}; }
    return ranges[0].first;
  }

  char_set escape() {
    if (at_end()) { fail("a \\ with nothing behind it"); }
    auto const c = any_char();
    char_set const digit{{'0', '9'}};
    char_set const word{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    char_set const space{{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                         {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                         {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    auto const one = [](char32_t of) { return char_set{{of, of}}; };
    switch (c) {
      case 'd':
        return digit;
      case 'D':
        return digit.complement();
      case 'w':
        return word;
      case 'W':
        return word.complement();
      case 's':
        return space;
      case 'S':
        return space.complement();
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'v':
        return one('\v');
      case 'f':
        return one('\f');
      case 'r':
        return one('\r');
      case '0':
        return one(0);
      case 'x':
        return one(hex(2));
      case 'u':
        return one(take('{') ? hex_in_braces() : hex(4));
      default:
        break;
    }
    bool const letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter) { fail(std::string{"\\"} + static_cast<char>(c) + " is not supported"); }
    return one(c);
  }

  char32_t hex_in_braces() {
    char32_t value = hex_digit();
    while (!take('}')) {
      value = 16 * value + hex_digit();
      if (value > last_char) { fail("a code point over 10ffff"); }
    }
    return value;
  }

  std::uint32_t number() {
    auto const begin = at_;
    std::uint32_t value = 0;
    for (; next_is_digit(); ++at_) {
      value = 10 * value + static_cast<std::uint32_t>(text_[at_] - '0');
      if (value > most) { fail("a repetition of more than " + std::to_string(most)); }
    }
    if (at_ == begin) { fail("a { without a number; write \\{ for the sign"); }
    return value;
  }

  /// The next character, of a text that is whole UTF-8 and not at its end.
  char32_t any_char() { return static_cast<char32_t>(read_char(text_, at_)); }

  void expect_utf8() {
    while (!at_end()) {
      if (read_char(text_, at_) < 0) { fail("not UTF-8"); }
    }
    at_ = 0;
  }

  std::vector<node> nodes_;
  std::uint32_t root_ = 0;
};

}  // namespace tpx::detail
