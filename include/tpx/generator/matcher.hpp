// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/text_pattern.hpp>
#include <tpx/generator/text_trie.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tpx {

/// Finds patterns in a text that comes byte by byte: one table of (states, byte classes), one look
/// into it a byte, however many patterns there are. All that it knows of a text is an integer, so
/// going back is taking an older one.
///
/// Of patterns that end at the same byte the longest is found, and of equal ones the first. Each
/// scope has its own patterns; a match lies within one scope. Nothing follows a match: the text
/// ends there, or goes back, or begins anew in another scope.
class matcher {
 public:
  using state = std::uint32_t;

  /// Knows no pattern.
  matcher() : matcher{{}} {}

  /// Costs states times byte classes, in time and in memory (4 bytes); a state is a different
  /// beginning of a pattern. Throws invalid_argument for an empty pattern, for a scope that is not
  /// below `scopes`, and beyond 256 MiB.
  explicit matcher(std::span<text_pattern const> patterns, std::size_t scopes = 1) {
    check(patterns, scopes);
    class_bytes(patterns);
    table_.resize(scopes * width_);
    for (std::uint32_t scope = 0; scope < scopes; ++scope) { compile(patterns, scope); }
    for (bool changed = true; changed;) { changed = measure(); }
  }

  /// Before the first byte of a text, or of a scope.
  [[nodiscard]] state start(std::size_t scope = 0) const {
    return static_cast<state>(scope * width_);
  }

  /// `from` is not one in which a match ended.
  [[nodiscard]] state next(state from, char byte) const {
    return table_[from + class_[static_cast<unsigned char>(byte)]];
  }

  /// Takes bytes until a match ends or there are none left; returns how many it took.
  std::size_t run(state& s, std::string_view bytes) const {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      s = next(s, bytes[i]);
      if (matched(s)) { return i + 1; }
    }
    return bytes.size();
  }

  /// Whether a Stop or Ban pattern ended with the last byte, and which.
  [[nodiscard]] static constexpr bool matched(state s) { return s >= found; }
  [[nodiscard]] static constexpr std::size_t pattern(state s) { return s - found; }

  [[nodiscard]] std::size_t length(std::size_t pattern) const { return patterns_[pattern].length; }
  [[nodiscard]] text_action action(std::size_t pattern) const { return patterns_[pattern].action; }

  /// How many bytes at the end of the text some bytes to come would make part of a Stop match; of
  /// a Ban match; of either. No more and no less: a pattern that another always forestalls does
  /// not count.
  [[nodiscard]] std::size_t stop_depth(state s) const { return table_[s]; }
  [[nodiscard]] std::size_t ban_depth(state s) const { return table_[s + 1]; }
  [[nodiscard]] std::size_t depth(state s) const { return std::max(table_[s], table_[s + 1]); }

  [[nodiscard]] std::size_t scopes() const { return scopes_; }
  [[nodiscard]] std::size_t bytes() const { return table_.size() * sizeof(state); }

 private:
  static constexpr state found = state{1} << 31;  // and the pattern's number
  static constexpr std::size_t most_entries = std::size_t{1} << 26;
  static constexpr std::size_t heads = 2;  // of a row: its stop_depth and ban_depth

  struct known {
    std::uint32_t length;
    text_action action;
    std::uint32_t enters;
  };

  static constexpr char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }

  void check(std::span<text_pattern const> patterns, std::size_t scopes) {
    expects(scopes >= 1 && scopes <= max_scopes,
            [&] { return std::to_string(scopes) + " scopes, where 1 to 32 are possible"; });
    scopes_ = scopes;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      auto const& p = patterns[i];
      expects(
        !p.text.empty(), [&] { return "pattern " + std::to_string(i) + " is empty"; },
        "leave it out");
      expects(p.text.size() < most_entries, [&] {
        return "pattern " + std::to_string(i) + " has " + std::to_string(p.text.size()) + " bytes";
      });
      expects(p.enters < scopes, [&] {
        return "pattern " + std::to_string(i) + " enters scope " + std::to_string(p.enters) +
               " of " + std::to_string(scopes);
      });
      patterns_.push_back({static_cast<std::uint32_t>(p.text.size()), p.action, p.enters});
    }
  }

  /// A byte that no pattern has is like every other such byte.
  void class_bytes(std::span<text_pattern const> patterns) {
    std::array<bool, 256> used{};
    for (auto const& p : patterns) {
      for (char const c : p.text) {
        used[static_cast<unsigned char>(c)] = true;
        if (!p.ignore_case) { continue; }
        for (int byte = 0; byte < 256; ++byte) {
          if (lower(static_cast<char>(byte)) == lower(c)) {
            used[static_cast<unsigned>(byte)] = true;
          }
        }
      }
    }
    width_ = heads + 1;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      class_[byte] = static_cast<std::uint16_t>(used[byte] ? width_++ : heads);
    }
    folded_.assign(width_, heads);
    for (std::size_t byte = 0; byte < 256; ++byte) {
      folded_[class_[byte]] = class_[static_cast<unsigned char>(lower(static_cast<char>(byte)))];
    }
  }

  /// Fills the rows of one scope. Patterns that ignore case have an automaton of their own, which
  /// sees lower case alone; a state of the table is a pair of states that occurs.
  void compile(std::span<text_pattern const> patterns, std::uint32_t scope) {
    detail::text_trie exact{width_}, folded{width_};
    std::vector<std::uint16_t> word;
    for (std::uint32_t i = 0; i < patterns.size(); ++i) {
      auto const& p = patterns[i];
      if ((p.scopes >> scope & 1) == 0) { continue; }
      word.clear();
      for (char const c : p.text) {
        word.push_back(class_[static_cast<unsigned char>(p.ignore_case ? lower(c) : c)]);
      }
      (p.ignore_case ? folded : exact).add(word, i);
    }
    exact.complete();
    folded.complete();

    struct pair {
      std::uint32_t exact, folded;
      state row;
      std::uint32_t next;  // pair of the same sum, or none
    };
    std::vector<pair> pairs;
    std::vector<std::uint32_t> first(exact.nodes() + folded.nodes(), detail::text_trie::none);
    auto const row_of = [&](std::uint32_t u, std::uint32_t v) {
      auto& chain = first[u + v];
      auto i = chain;
      while (i != detail::text_trie::none && (pairs[i].exact != u || pairs[i].folded != v)) {
        i = pairs[i].next;
      }
      if (i != detail::text_trie::none) { return pairs[i].row; }
      auto const row = pairs.empty() ? start(scope) : static_cast<state>(table_.size());
      if (!pairs.empty()) { table_.resize(table_.size() + width_); }
      expects(table_.size() <= most_entries, "the patterns need a table of more than 256 MiB",
              "give fewer or shorter ones, or let all of them ignore case, or none");
      pairs.push_back({u, v, row, chain});
      chain = static_cast<std::uint32_t>(pairs.size() - 1);
      return row;
    };
    row_of(0, 0);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      auto const from = pairs[i];
      for (std::size_t c = heads; c < width_; ++c) {
        auto const u = exact.next(from.exact, c);
        auto const v = folded.next(from.folded, folded_[c]);
        auto const p = longest(exact.word(u), folded.word(v));
        state const to = p == detail::text_trie::none                ? row_of(u, v)
                         : patterns_[p].action == text_action::Enter ? start(patterns_[p].enters)
                                                                     : found + p;
        table_[from.row + c] = to;
      }
    }
  }

  [[nodiscard]] std::uint32_t longest(std::uint32_t a, std::uint32_t b) const {
    if (a == detail::text_trie::none || b == detail::text_trie::none) { return std::min(a, b); }
    if (patterns_[a].length != patterns_[b].length) {
      return patterns_[a].length > patterns_[b].length ? a : b;
    }
    return std::min(a, b);
  }

  /// A state is as deep as the deepest that a byte leads to, less that byte. Depths only grow, to
  /// the least that fit together. Deep states come last: few rounds are needed.
  bool measure() {
    bool changed = false;
    for (std::size_t row = table_.size(); row > 0;) {
      row -= width_;
      for (std::size_t head = 0; head < heads; ++head) {
        state deepest = 1;
        for (std::size_t c = heads; c < width_; ++c) {
          state const to = table_[row + c];
          if (!matched(to)) {
            deepest = std::max(deepest, table_[to + head]);
          } else if ((action(pattern(to)) == text_action::Ban) == (head == 1)) {
            deepest = std::max(deepest, patterns_[pattern(to)].length);
          }
        }
        changed = changed || table_[row + head] != deepest - 1;
        table_[row + head] = deepest - 1;
      }
    }
    return changed;
  }

  std::size_t scopes_ = 1;
  std::size_t width_ = 0;                   // of a row, in entries
  std::array<std::uint16_t, 256> class_{};  // where in a row a byte's entry is
  std::vector<std::uint16_t> folded_;       // a byte's class to that of its lower case
  std::vector<state> table_;                // a state is the offset of its row
  std::vector<known> patterns_;
};

}  // namespace tpx
