// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/grammar_interner.hpp>
#include <tpx/generator/grammar_nfa.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tpx::detail {

/// Where a text stands in a grammar: a state of the innermost frame and the frames around it.
struct grammar_position {
  std::uint32_t state;
  std::uint32_t stack;

  bool operator==(grammar_position const&) const = default;
};

/// A grammar_nfa made deterministic as texts and tokens ask for it.
///
/// A state is the set of pairs (where to go on after the frame, state of the nfa) that a text has
/// reached within the frame. Opening a frame pushes the pairs that wait around it. States, stacks
/// and transitions are kept and found again, so a byte costs a look into a table; a new state costs
/// what simulating the nfa costs, and no text makes more states than it has bytes.
class grammar_automaton {
 public:
  /// What a byte does in a state; the number beside it is of the next state, of an opening or of a
  /// closing.
  enum class action : std::uint32_t { move, open, close, none };

  static constexpr std::uint32_t bottom = 0;  // the stack of no frame

  explicit grammar_automaton(grammar_nfa nfa) : nfa_{std::move(nfa)}, seen_(nfa_.states(), 0) {
    clear();
  }

  [[nodiscard]] grammar_position start() {
    pairs_.assign(1, pair(outermost, grammar_nfa::start));
    return {state_of(pairs_), bottom};
  }

  [[nodiscard]] bool accepts(grammar_position at) const { return accepting_[at.state]; }

  /// What `byte` does in a state: {action, number}.
  [[nodiscard]] std::pair<action, std::uint32_t> look(std::uint32_t state, unsigned char byte) {
    auto entry = rows_[std::size_t{256} * state + byte];
    if (entry == unknown) {
      fill_row(state);
      entry = rows_[std::size_t{256} * state + byte];
    }
    return {static_cast<action>(entry & 3), entry >> 2};
  }

  /// Where opening `number` leads.
  [[nodiscard]] grammar_position opened(std::uint32_t number, std::uint32_t stack) {
    auto const& [state, waiting] = openings_[number];
    return {state, stack_of(stack, waiting)};
  }

  /// Where closing `number` leads on a stack that is not bottom.
  [[nodiscard]] grammar_position closed(std::uint32_t number, std::uint32_t stack) {
    auto const frame = stacks_[stack][0];
    auto const waiting = static_cast<std::uint32_t>(frame);
    std::uint64_t const key[]{std::uint64_t{number} << 32 | waiting};
    auto const known = closings_(key);
    if (known == closed_.size()) {
      auto const done = sets_[number];
      pairs_.clear();
      for (auto const p : sets_[waiting]) {
        if (std::ranges::binary_search(done, p & low)) { pairs_.push_back(p); }
      }
      closed_.push_back(state_of(pairs_));
    }
    return {closed_[known], static_cast<std::uint32_t>(frame >> 32)};
  }

  /// One byte on. False, with `at` as it was, where the byte fits nowhere.
  [[nodiscard]] bool step(grammar_position& at, unsigned char byte) {
    auto const [what, number] = look(at.state, byte);
    if (what == action::none) { return false; }
    at = what == action::move   ? grammar_position{number, at.stack}
         : what == action::open ? opened(number, at.stack)
                                : closed(number, at.stack);
    return true;
  }

  [[nodiscard]] std::size_t bytes() const {
    return sets_.bytes() + states_.bytes() + stacks_.bytes() + closings_.bytes() +
           4 * (rows_.size() + closed_.size()) + 8 * openings_.size();
  }

  [[nodiscard]] std::size_t states() const { return states_.size(); }

  /// Forgets all but the positions in `live`, which get new numbers.
  void keep_only(std::span<grammar_position> live) {
    struct kept_position {
      std::vector<std::uint64_t> state;
      std::vector<std::vector<std::uint64_t>> frames;  // innermost first
    };
    auto const copy = [](std::span<std::uint64_t const> words) {
      return std::vector<std::uint64_t>(words.begin(), words.end());
    };
    std::vector<kept_position> kept;
    for (auto const& p : live) {
      kept_position k;
      k.state = copy(states_[p.state]);
      for (auto s = p.stack; s != bottom; s = static_cast<std::uint32_t>(stacks_[s][0] >> 32)) {
        k.frames.push_back(copy(sets_[static_cast<std::uint32_t>(stacks_[s][0])]));
      }
      kept.push_back(std::move(k));
    }
    clear();
    for (std::size_t i = 0; i < live.size(); ++i) {
      live[i].state = numbered(kept[i].state);
      live[i].stack = bottom;
      for (auto f = kept[i].frames.rbegin(); f != kept[i].frames.rend(); ++f) {
        live[i].stack = stack_of(live[i].stack, sets_(*f));
      }
    }
  }

 private:
  using nfa_state = grammar_nfa::state;
  using edge = grammar_nfa::edge;
  using kind = grammar_nfa::edge_kind;

  static constexpr std::uint32_t unknown = ~0u;
  static constexpr std::uint32_t dead = static_cast<std::uint32_t>(action::none);
  static constexpr nfa_state outermost = ~0u;
  static constexpr std::uint64_t low = 0xffffffffu;

  static constexpr std::uint64_t pair(nfa_state after, nfa_state here) {
    return std::uint64_t{after} << 32 | here;
  }
  static constexpr std::uint32_t entry(action what, std::size_t number) {
    return static_cast<std::uint32_t>(number) << 2 | static_cast<std::uint32_t>(what);
  }

  void clear() {
    for (auto* const all : {&sets_, &states_, &stacks_, &closings_}) { all->clear(); }
    rows_.clear();
    accepting_.clear();
    openings_.clear();
    closed_.clear();
    sets_({});  // set 0 is nobody, so that no frame has the word of bottom
    std::uint64_t const no_frame[]{0};
    stacks_(no_frame);
  }

  std::uint32_t stack_of(std::uint32_t below, std::uint32_t waiting) {
    std::uint64_t const frame[]{std::uint64_t{below} << 32 | waiting};
    return stacks_(frame);
  }

  /// The state of what `pairs` reach without a byte.
  std::uint32_t state_of(std::vector<std::uint64_t>& pairs) {
    std::ranges::sort(pairs);
    std::vector<std::uint64_t>& reached = reached_;
    reached.clear();
    for (std::size_t i = 0; i < pairs.size();) {
      auto const after = pairs[i] >> 32;
      ++round_;
      for (; i < pairs.size() && pairs[i] >> 32 == after; ++i) { see(pairs[i]); }
      while (!todo_.empty()) {
        auto const here = todo_.back();
        todo_.pop_back();
        bool stays = here == grammar_nfa::accept;
        for (auto const& e : nfa_.edges(here)) {
          if (e.kind == kind::empty) {
            see(pair(static_cast<nfa_state>(after), e.to));
          } else {
            stays = true;
          }
        }
        if (stays) { reached.push_back(after << 32 | here); }
      }
    }
    std::ranges::sort(reached);
    return numbered(reached);
  }

  void see(std::uint64_t p) {
    auto const here = static_cast<nfa_state>(p);
    if (seen_[here] == round_) { return; }
    seen_[here] = round_;
    todo_.push_back(here);
  }

  std::uint32_t numbered(std::span<std::uint64_t const> pairs) {
    auto const number = states_(pairs);
    if (number == accepting_.size()) {
      accepting_.push_back(std::ranges::binary_search(pairs, pair(outermost, grammar_nfa::accept)));
      rows_.resize(rows_.size() + 256, unknown);
    }
    return number;
  }

  /// Bytes between two edges' ends do the same, so each such run is looked at once.
  void fill_row(std::uint32_t number) {
    std::vector<std::uint64_t> const pairs{states_[number].begin(), states_[number].end()};
    std::bitset<257> begins;
    begins.set(0);
    for (auto const p : pairs) {
      for (auto const& e : nfa_.edges(static_cast<nfa_state>(p))) {
        if (e.kind == kind::empty) { continue; }
        begins.set(e.first);
        begins.set(e.last + 1u);
      }
    }
    for (unsigned first = 0, last = 0; first < 256; first = last) {
      for (last = first + 1; last < 256 && !begins[last];) { ++last; }
      auto const value = transition(pairs, static_cast<unsigned char>(first));
      auto const row = rows_.begin() + std::ptrdiff_t{256} * number;
      std::fill(row + first, row + last, value);
    }
  }

  std::uint32_t transition(std::vector<std::uint64_t> const& pairs, unsigned char byte) {
    std::vector<std::uint64_t> moved;
    std::vector<std::uint64_t> waiting;
    std::vector<std::uint64_t> closing;
    auto what = action::none;
    for (auto const p : pairs) {
      auto const after = static_cast<nfa_state>(p >> 32);
      for (auto const& e : nfa_.edges(static_cast<nfa_state>(p))) {
        if (e.kind == kind::empty || byte < e.first || byte > e.last) { continue; }
        if (e.kind == kind::bytes) {
          what = action::move;
          moved.push_back(pair(after, e.to));
        } else if (e.kind == kind::open) {
          what = action::open;
          moved.push_back(pair(e.ret, e.to));
          waiting.push_back(pair(after, e.ret));
        } else {
          what = action::close;
          closing.push_back(after);
        }
      }
    }
    if (what == action::none) { return dead; }
    if (what == action::move) { return entry(what, state_of(moved)); }
    if (what == action::close) { return entry(what, sets_(unique(closing))); }
    openings_.push_back({state_of(moved), sets_(unique(waiting))});
    return entry(what, openings_.size() - 1);
  }

  static std::span<std::uint64_t const> unique(std::vector<std::uint64_t>& words) {
    std::ranges::sort(words);
    words.erase(std::unique(words.begin(), words.end()), words.end());
    return words;
  }

  grammar_nfa nfa_;
  interner sets_;      // pairs that wait around a frame; frames' ends
  interner states_;    // pairs within a frame
  interner stacks_;    // (stack below, set that waits)
  interner closings_;  // (frames' ends, set that waits), of which closed_ has the state
  std::vector<std::uint32_t> rows_;  // (states, 256)
  std::vector<bool> accepting_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> openings_;  // state within, set that waits
  std::vector<std::uint32_t> closed_;

  std::vector<std::uint64_t> pairs_;
  std::vector<std::uint64_t> reached_;
  std::vector<nfa_state> todo_;
  std::vector<std::uint64_t> seen_;  // by the nfa's state: the last round that saw it
  std::uint64_t round_ = 0;
};

}  // namespace tpx::detail
