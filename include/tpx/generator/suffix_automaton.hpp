// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/edge_table.hpp>
#include <tpx/generator/token.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tpx {

/// All substrings of a growing sequence of tokens, to know at any time the longest end of it that
/// occurs earlier too.
///
/// A suffix automaton: append is amortised O(1), at most two states and three edges a token.
/// A journal takes appends back in the time that they took; what is then there is what appending
/// the remaining tokens alone would have made, so that work on it allocates nothing that was
/// reserved. Most states have one edge, which lies in the state; the rest are hashed.
/// Source: Blumer et al., The smallest automaton recognizing the subwords of a text (1985).
class suffix_automaton {
 public:
  /// Reserves for `tokens` of any text (~200 bytes each, of which usual text touches 130); more
  /// still fit.
  explicit suffix_automaton(std::size_t tokens = 0) : edges_{tokens + tokens / 4} {
    tokens_.reserve(tokens);
    marks_.reserve(tokens);
    states_.reserve(2 * tokens + 1);
    changes_.reserve(5 * tokens);
    clear();
  }

  [[nodiscard]] std::span<token_id const> tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::size_t size() const noexcept { return tokens_.size(); }

  struct match {
    std::size_t length;  // of the longest end of the tokens that occurs earlier; 0: none does
    std::size_t end;     // of an earlier occurrence, a late one: tokens()[end] came after it
  };
  [[nodiscard]] match longest() const noexcept {
    auto const link = states_[last_].link;
    return link == none ? match{0, 0} : match{states_[link].length, states_[link].end};
  }

  void append(token_id token) {
    marks_.push_back({static_cast<std::uint32_t>(states_.size()), edges_.size(), last_,
                      static_cast<std::uint32_t>(changes_.size())});
    auto const end = static_cast<std::uint32_t>(tokens_.size());
    // The match that was the longest has now occurred again, at the end.
    if (auto const link = states_[last_].link; link != none) { set(link, &state::end, end); }
    tokens_.push_back(token);

    auto const made = add({.length = end + 1, .end = end + 1});
    auto from = last_;
    std::uint32_t to = none;
    for (; from != none && (to = target(from, token)) == none; from = states_[from].link) {
      connect(from, token, made);
    }
    last_ = made;
    if (from == none) {
      states_[made].link = root;
    } else {
      states_[made].link =
        states_[to].length == states_[from].length + 1 ? to : split(from, token, to);
    }
  }

  /// Takes back the last `count` appends. Throws invalid_argument if there were fewer.
  void rewind(std::size_t count) {
    expects(
      count <= size(),
      [&] {
        return "a rewind by " + std::to_string(count) + " tokens of " + std::to_string(size());
      },
      "rewind by no more tokens than were appended");
    for (; count > 0; --count) {
      auto const& before = marks_.back();
      while (changes_.size() > before.changes) {
        auto const& [field, at, old] = changes_.back();
        if (field == nullptr) {
          edges_.retarget(at, old);
        } else {
          states_[at].*field = old;
        }
        changes_.pop_back();
      }
      edges_.shrink(before.edges);
      states_.resize(before.states);
      last_ = before.last;
      tokens_.pop_back();
      marks_.pop_back();
    }
  }

  /// As new, with the memory kept.
  void clear() {
    tokens_.clear();
    marks_.clear();
    changes_.clear();
    edges_.shrink(0);
    states_.clear();
    last_ = add({.length = 0, .end = 0});
  }

 private:
  static constexpr std::uint32_t none = 0xffffffff;
  static constexpr std::uint32_t root = 0;

  struct state {
    std::uint32_t length;       // of its longest string
    std::uint32_t end;          // where an occurrence of its strings ends
    std::uint32_t link = none;  // the state of its longest string's longest end that is not its own
    token_id token = 0;         // of its first edge
    std::uint32_t target = none;  // of its first edge; none: it has no edge
    std::uint32_t more = none;    // its latest edge in edges_
  };
  struct change {
    std::uint32_t state::*field;
    std::uint32_t at;  // a state or, without a field, an edge
    std::uint32_t old;
  };
  struct mark {  // what was there before a token
    std::uint32_t states, edges, last, changes;
  };

  std::uint32_t add(state made) {
    states_.push_back(made);
    return static_cast<std::uint32_t>(states_.size() - 1);
  }

  // A state of this append is dropped by a rewind and needs no journal.
  void set(std::uint32_t at, std::uint32_t state::*field, std::uint32_t value) {
    if (at < marks_.back().states) { changes_.push_back({field, at, states_[at].*field}); }
    states_[at].*field = value;
  }

  std::uint32_t target(std::uint32_t from, token_id token) const {
    auto const& [length, end, link, first, to, more] = states_[from];
    if (to == none || first == token) { return to; }
    auto const edge = more == none ? none : edges_.find(from, token);
    return edge == none ? none : edges_[edge].target;
  }

  void connect(std::uint32_t from, token_id token, std::uint32_t to) {
    if (states_[from].target == none) {
      states_[from].token = token;
      set(from, &state::target, to);
    } else {
      set(from, &state::more, edges_.add({from, token, to, states_[from].more}));
    }
  }

  void reconnect(std::uint32_t from, token_id token, std::uint32_t to) {
    if (states_[from].token == token) {
      set(from, &state::target, to);
    } else {
      auto const edge = edges_.find(from, token);
      changes_.push_back({nullptr, edge, edges_[edge].target});
      edges_.retarget(edge, to);
    }
  }

  // `whole` has strings that end here and longer ones that do not: the former become a state.
  std::uint32_t split(std::uint32_t from, token_id token, std::uint32_t whole) {
    auto const old = states_[whole];
    auto const part = add({states_[from].length + 1, old.end, old.link, old.token, old.target});
    for (auto edge = old.more; edge != none; edge = edges_[edge].next) {
      connect(part, edges_[edge].token, edges_[edge].target);
    }
    set(whole, &state::link, part);
    for (; from != none && target(from, token) == whole; from = states_[from].link) {
      reconnect(from, token, part);
    }
    return part;
  }

  std::vector<token_id> tokens_;
  std::vector<state> states_;
  detail::edge_table edges_;
  std::uint32_t last_ = root;  // the state of all tokens
  std::vector<mark> marks_;    // one a token
  std::vector<change> changes_;
};

}  // namespace tpx
