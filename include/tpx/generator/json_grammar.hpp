// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/grammar_nfa.hpp>
#include <tpx/generator/json_text.hpp>
#include <tpx/generator/regex_syntax.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tpx::detail {

/// The parts of JSON texts, added to an automaton from one state to another. Every { and [ outside
/// a string opens a frame, every } and ] there closes one, so that all ways through it do so
/// together.
class json_grammar {
 public:
  using state = grammar_nfa::state;

  static constexpr std::size_t no_limit = ~std::size_t{0};

  /// Up to `most_space` whitespace characters may stand where JSON lets them.
  json_grammar(grammar_nfa& nfa, std::size_t most_space) : nfa_{nfa}, most_space_{most_space} {}

  void space(state from, state to) {
    auto const one = [&](state a, state b) {
      nfa_.chars(a, char_set{{' ', ' '}, {'\t', '\n'}, {'\r', '\r'}}, spelling::utf8, b);
    };
    repeat(0, most_space_, from, to, one);
  }

  /// `sign`, with whitespace behind it.
  void sign(char sign, state from, state to) {
    auto const behind = nfa_.add();
    nfa_.text(from, {&sign, 1}, behind);
    space(behind, to);
  }

  void number(state from, state to) {
    expression(R"(-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?)", from, to);
  }
  void integer(state from, state to) { expression(R"(-?(0|[1-9]\d*))", from, to); }

  /// A string of `min` to `max` characters.
  void string(std::size_t min, std::size_t max, state from, state to) {
    quoted(from, to, [&](state begin, state end) {
      repeat(min, max, begin, end,
             [&](state a, state b) { nfa_.chars(a, any_char(), spelling::json, b); });
    });
  }

  /// A string that an expression matches.
  void string(regex_syntax const& syntax, state from, state to) {
    quoted(from, to,
           [&](state begin, state end) { syntax.compile(nfa_, spelling::json, begin, end); });
  }

  /// A string that is none of `names`, however it is written.
  void other_string(std::vector<std::string> const& names, state from, state to) {
    struct node {
      state here;
      bool is_name = false;
      std::map<char32_t, std::size_t> next = {};
    };
    quoted(from, to, [&](state begin, state end) {
      std::vector<node> tree{{begin}};
      for (auto const& name : names) {
        std::size_t at = 0;
        for (std::size_t i = 0; i < name.size();) {
          auto const c = static_cast<char32_t>(read_char(name, i));
          auto const [found, is_new] = tree[at].next.try_emplace(c, tree.size());
          at = found->second;
          if (is_new) { tree.push_back({nfa_.add()}); }
        }
        tree[at].is_name = true;
      }
      auto const other = nfa_.add();
      nfa_.chars(other, any_char(), spelling::json, other);
      nfa_.empty(other, end);
      for (auto const& n : tree) {
        char_set names_go_on;
        for (auto const& [c, next] : n.next) {
          nfa_.chars(n.here, {{c, c}}, spelling::json, tree[next].here);
          names_go_on.add({c, c});
        }
        nfa_.chars(n.here, names_go_on.complement(), spelling::json, other);
        if (!n.is_name) { nfa_.empty(n.here, end); }
      }
    });
  }

  /// `value` itself: numbers as it writes them, strings in their shortest spelling, members in its
  /// order.
  void literal(json_value const& value, state from, state to) {
    using kind = json_value::kind;
    if (value.what == kind::string) { return nfa_.text(from, quote(value.text), to); }
    if (value.what != kind::array && value.what != kind::object) {
      return nfa_.text(from, value.text, to);
    }
    bool const is_object = value.what == kind::object;
    auto const body = nfa_.add();
    nfa_.open(from, is_object ? '{' : '[', body, to);
    auto at = nfa_.add();
    space(body, at);
    for (std::size_t i = 0; i < value.items.size(); ++i) {
      auto const begin = nfa_.add();
      i == 0 ? nfa_.empty(at, begin) : sign(',', at, begin);
      auto const item = nfa_.add();
      is_object ? name(value.names[i], begin, item) : nfa_.empty(begin, item);
      auto const behind = nfa_.add();
      literal(value.items[i], item, behind);
      at = nfa_.add();
      space(behind, at);
    }
    nfa_.close(at, is_object ? '}' : ']');
  }

  /// An object's name and its colon.
  void name(std::string const& name, state from, state to) {
    auto const behind = nfa_.add();
    nfa_.text(from, quote(name), behind);
    colon(behind, to);
  }

  void colon(state from, state to) {
    auto const before = nfa_.add();
    space(from, before);
    sign(':', before, to);
  }

  [[nodiscard]] static std::string quote(std::string_view text) {
    std::string all = "\"";
    for (char const c : text) {
      constexpr std::string_view letters = "\"\\bfnrt";
      auto const which = std::string_view{"\"\\\b\f\n\r\t"}.find(c);
      if (which != letters.npos) {
        all += {'\\', letters[which]};
      } else if (static_cast<unsigned char>(c) < 0x20) {
        all += c < 0x10 ? "\\u000" : "\\u001";
        all += "0123456789abcdef"[c & 15];
      } else {
        all += c;
      }
    }
    return all + '"';
  }

 private:
  static char_set any_char() { return {{0, last_char}}; }

  template <class Inside>
  void quoted(state from, state to, Inside const& inside) {
    auto const begin = nfa_.add();
    auto const end = nfa_.add();
    nfa_.text(from, "\"", begin);
    inside(begin, end);
    nfa_.text(end, "\"", to);
  }

  template <class One>
  void repeat(std::size_t min, std::size_t max, state from, state to, One const& one) {
    for (std::size_t i = 0; i < min || (i < max && max != no_limit); ++i) {
      if (i >= min) { nfa_.empty(from, to); }
      auto const next = nfa_.add();
      one(from, next);
      from = next;
    }
    if (max == no_limit) {
      auto const loop = nfa_.add();
      nfa_.empty(from, loop);
      one(loop, loop);
      from = loop;
    }
    nfa_.empty(from, to);
  }

  void expression(std::string_view text, state from, state to) {
    regex_syntax{text, regex_syntax::matches::whole, "JSON"}.compile(nfa_, spelling::utf8, from,
                                                                     to);
  }

  grammar_nfa& nfa_;
  std::size_t most_space_;
};

}  // namespace tpx::detail
