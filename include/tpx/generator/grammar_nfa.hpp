// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/char_set.hpp>
#include <tpx/generator/grammar_spelling.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tpx::detail {

/// A nondeterministic automaton over bytes whose brackets nest.
///
/// A byte may open a frame: the automaton goes on in a body and remembers where to go on after the
/// byte that closes it. Where one way through the automaton opens or closes at a byte of a text,
/// all ways do, so that the set of all ways needs one stack (a visibly pushdown automaton; Alur and
/// Madhusudan, STOC 2004). A regular expression has no frames.
class grammar_nfa {
 public:
  using state = std::uint32_t;

  enum class edge_kind : std::uint8_t { empty, bytes, open, close };

  struct edge {
    state from;
    state to;   // close: nowhere
    state ret;  // open: where it goes on after the frame
    std::uint8_t first;
    std::uint8_t last;
    edge_kind kind;
  };

  static constexpr state start = 0;
  static constexpr state accept = 1;

  /// So many edges for each of max_states, at most.
  static constexpr std::size_t edges_a_state = 8;

  explicit grammar_nfa(std::size_t max_states) : max_states_{max_states}, states_{2} {}

  [[nodiscard]] state add() {
    expect_room(states_);
    return static_cast<state>(states_++);
  }

  void empty(state from, state to) { add({from, to, 0, 0, 0, edge_kind::empty}); }

  void bytes(state from, unsigned char first, unsigned char last, state to) {
    add({from, to, 0, first, last, edge_kind::bytes});
  }

  void open(state from, char byte, state body, state ret) {
    auto const b = static_cast<unsigned char>(byte);
    add({from, body, ret, b, b, edge_kind::open});
  }

  void close(state from, char byte) {
    auto const b = static_cast<unsigned char>(byte);
    add({from, from, 0, b, b, edge_kind::close});
  }

  void text(state from, std::string_view text, state to) {
    for (char const c : text) {
      auto const next = add();
      bytes(from, static_cast<unsigned char>(c), static_cast<unsigned char>(c), next);
      from = next;
    }
    empty(from, to);
  }

  /// One character of `set`. Ways to write them share what they begin with.
  void chars(state from, char_set const& set, spelling how, state to) {
    std::vector<spelled> last;
    std::vector<state> path{from};
    spell(set, how, [&](std::vector<spelled> const& steps) {
      std::size_t same = 0;
      while (same + 1 < steps.size() && same + 1 < last.size() && steps[same] == last[same]) {
        ++same;
      }
      path.resize(same + 1);
      for (auto i = same; i < steps.size(); ++i) {
        auto const next = i + 1 == steps.size() ? to : add();
        spelled_step(path.back(), steps[i], next);
        path.push_back(next);
      }
      last = steps;
    });
  }

  /// Takes out all that leads to no end and sorts what is left. Throws where nothing is left: no
  /// text fits.
  void finish() {
    auto const good = states_with_an_end();
    expects(good[start], "no text fits the grammar");
    std::erase_if(edges_, [&](edge const& e) {
      return !good[e.to] || (e.kind == edge_kind::open && !good[e.ret]);
    });
    std::sort(edges_.begin(), edges_.end(),
              [](edge const& a, edge const& b) { return a.from < b.from; });
    first_.assign(states_ + 1, 0);
    for (auto const& e : edges_) { ++first_[e.from + 1]; }
    for (std::size_t i = 1; i < first_.size(); ++i) { first_[i] += first_[i - 1]; }
  }

  [[nodiscard]] std::size_t states() const { return states_; }

  /// Once finished.
  [[nodiscard]] std::span<edge const> edges(state of) const {
    return std::span{edges_}.subspan(first_[of], first_[of + 1] - first_[of]);
  }

 private:
  void add(edge e) {
    expect_room(edges_.size() / edges_a_state);
    edges_.push_back(e);
  }

  void expect_room(std::size_t used) const {
    expects(
      used < max_states_,
      [&] { return "the grammar needs more than " + std::to_string(max_states_) + " states"; },
      "lower its repetition counts or raise max_states");
  }

  void spelled_step(state from, spelled step, state to) {
    if (!step.hex) { return bytes(from, step.first, step.last, to); }
    auto const digits = [&](unsigned first, unsigned last, unsigned zero) {
      first = std::max<unsigned>(first, step.first);
      last = std::min<unsigned>(last, step.last);
      if (first <= last) {
        bytes(from, static_cast<unsigned char>(zero + first),
              static_cast<unsigned char>(zero + last), to);
      }
    };
    digits(0, 9, '0');
    digits(10, 15, 'a' - 10);
    digits(10, 15, 'A' - 10);
  }

  /// From which an accepting state or the end of the frame can be reached, backwards from those.
  [[nodiscard]] std::vector<char> states_with_an_end() const {
    std::vector<std::vector<std::uint32_t>> into(states_);  // edges, by what they need
    std::vector<char> good(states_, 0);
    std::vector<state> todo;
    auto const found = [&](state s) {
      if (good[s] == 0) {
        good[s] = 1;
        todo.push_back(s);
      }
    };
    for (std::size_t i = 0; i < edges_.size(); ++i) {
      auto const& e = edges_[i];
      into[e.to].push_back(static_cast<std::uint32_t>(i));
      if (e.kind == edge_kind::open) { into[e.ret].push_back(static_cast<std::uint32_t>(i)); }
    }
    found(accept);
    for (auto const& e : edges_) {
      if (e.kind == edge_kind::close) { found(e.from); }
    }
    while (!todo.empty()) {
      auto const s = todo.back();
      todo.pop_back();
      for (auto const i : into[s]) {
        auto const& e = edges_[i];
        if (good[e.to] && (e.kind != edge_kind::open || good[e.ret])) { found(e.from); }
      }
    }
    return good;
  }

  std::size_t max_states_;
  std::size_t states_;
  std::vector<edge> edges_;
  std::vector<std::size_t> first_;  // edges of state s: from first_[s] to first_[s + 1]
};

}  // namespace tpx::detail
