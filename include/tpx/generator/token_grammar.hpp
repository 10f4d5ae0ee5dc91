// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/grammar_automaton.hpp>
#include <tpx/generator/mask.hpp>
#include <tpx/generator/token_trie.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx {

/// A grammar over a vocabulary, with the masks that texts have asked for so far. Jobs with the same
/// grammar share one; it is used by one thread at a time.
///
/// The mask of a state is found by walking the vocabulary's tree and kept. What a token does past
/// the end of the state's frame depends on the frames around it: the tree's nodes at which a frame
/// ends are kept beside the mask and walked on from at each call.
class token_grammar {
 public:
  using position = detail::grammar_position;

  /// What is kept of states and masks may take `max_bytes`; more is forgotten and found anew.
  token_grammar(std::shared_ptr<token_trie const> tokens, detail::grammar_nfa nfa,
                std::size_t max_bytes)
      : tokens_{std::move(tokens)},
        automaton_{std::move(nfa)},
        max_bytes_{max_bytes},
        path_(tokens_->all().depth() + 2) {
    detail::spell(token_trie::plain(), detail::spelling::utf8,
                  [this](auto const& steps) { plain_.push_back(steps); });
  }

  [[nodiscard]] token_trie const& tokens() const { return *tokens_; }
  [[nodiscard]] position start() { return automaton_.start(); }
  [[nodiscard]] bool accepts(position at) const { return automaton_.accepts(at); }

  /// Grows when positions are forgotten: those that were not given to the call that made it grow
  /// mean nothing any more.
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

  /// Goes on by some bytes; false, where they do not fit, with `at` where it was.
  [[nodiscard]] bool advance(position& at, std::string_view bytes) {
    position both[]{at, at};
    for (char const c : bytes) {
      if (full()) { forget(both); }
      if (!automaton_.step(both[1], static_cast<unsigned char>(c))) {
        at = both[0];
        return false;
      }
    }
    at = both[1];
    return true;
  }

  /// Writes all of `mask`: the tokens whose pieces fit at `at`.
  void fill(position& at, std::span<std::uint32_t> mask) {
    if (full()) { forget({&at, 1}); }
    path_[0] = at;
    if (!fill_from_state(mask)) {
      // The walk itself needs more than may be kept: without looking for what could be kept.
      std::ranges::fill(mask, 0u);
      path_[1] = path_[0];
      (void)walk(
        tokens_->all(), 0, mask, [](auto, auto) {}, true);
    }
    at = path_[0];
  }

  /// States and masks that are kept.
  [[nodiscard]] std::size_t states() const { return automaton_.states(); }
  [[nodiscard]] std::size_t bytes() const { return automaton_.bytes() + mask_bytes_; }

 private:
  using action = detail::grammar_automaton::action;

  struct frame_end {
    std::uint32_t node;
    std::uint32_t closing;
  };

  struct state_mask {
    std::vector<std::uint32_t> mask;
    std::vector<frame_end> ends;
    detail::byte_trie const* trie = nullptr;  // that ends' nodes are of; null: not there yet
  };

  [[nodiscard]] bool full() const { return bytes() > max_bytes_; }

  void forget(std::span<position> live) {
    automaton_.keep_only(live);
    masks_.clear();
    mask_bytes_ = 0;
    ++generation_;
  }

  /// From path_[0]. False where there is no room for it all.
  bool fill_from_state(std::span<std::uint32_t> mask) {
    auto const state = path_[0].state;
    if (masks_.size() <= state) { masks_.resize(state + 1); }
    if (masks_[state].trie == nullptr && !make_mask(state, mask)) { return false; }
    auto const& known = masks_[state];
    std::ranges::copy(known.mask, mask.begin());
    for (auto const& end : known.ends) {
      path_[1u + known.trie->nodes()[end.node].depth] =
        automaton_.closed(end.closing, path_[0].stack);
      if (!walk(
            *known.trie, end.node, mask, [](auto, auto) {}, false)) {
        return false;
      }
    }
    return true;
  }

  bool make_mask(std::uint32_t state, std::span<std::uint32_t> mask) {
    state_mask made;
    if (lets_plain_pass(state)) {
      made.trie = &tokens_->rest();
      std::ranges::copy(tokens_->plain_mask(), mask.begin());
    } else {
      made.trie = &tokens_->all();
      std::ranges::fill(mask, 0u);
    }
    path_[1] = {state, detail::grammar_automaton::bottom};
    bool const done = walk(
      *made.trie, 0, mask,
      [&](std::uint32_t node, std::uint32_t closing) {
        made.ends.push_back({node, closing});
      },
      false);
    if (!done) { return false; }
    made.mask.assign(mask.begin(), mask.end());
    mask_bytes_ += 4 * mask.size() + sizeof(frame_end) * made.ends.size();
    masks_[state] = std::move(made);
    return true;
  }

  /// Allows the tokens at node `root` and under it that fit; path_[1 + depth of root] is where the
  /// text stands there. A byte that closes a frame which is not on the stack is told to
  /// `at_frame_end(node, closing)`. False, where `may_forget` does not hold, once there is no room.
  template <class FrameEnd>
  bool walk(detail::byte_trie const& trie, std::uint32_t root, std::span<std::uint32_t> mask,
            FrameEnd const& at_frame_end, bool may_forget) {
    auto const nodes = trie.nodes();
    auto states = automaton_.states();
    for (auto const token : trie.tokens(root)) { mask_allow(mask, token); }
    for (auto i = root + 1; i < nodes[root].end;) {
      auto const& node = nodes[i];
      auto const& from = path_[node.depth];
      auto& to = path_[node.depth + 1u];
      auto const [what, number] = automaton_.look(from.state, node.byte);
      if (what == action::move) {
        to = {number, from.stack};
      } else if (what == action::open) {
        to = automaton_.opened(number, from.stack);
      } else if (what == action::none) {
        i = node.end;
        continue;
      } else if (from.stack != detail::grammar_automaton::bottom) {
        to = automaton_.closed(number, from.stack);
      } else {
        at_frame_end(i, number);
        i = node.end;
        continue;
      }
      for (auto t = node.first; t < nodes[i + 1].first; ++t) { mask_allow(mask, trie.token(t)); }
      ++i;
      if (automaton_.states() == states && what != action::open) { continue; }
      if (full()) {
        if (!may_forget) { return false; }
        forget(std::span{path_}.first(node.depth + 2u));
      }
      states = automaton_.states();
    }
    return true;
  }

  /// Whether all texts of plain_chars plain characters fit in a state's frame. False where that
  /// would take long to find out.
  bool lets_plain_pass(std::uint32_t state) {
    std::vector<std::uint32_t> reached{state};
    std::size_t begin = 0;
    for (std::size_t chars = 0; chars < token_trie::plain_chars && begin < reached.size();
         ++chars) {
      auto const end = reached.size();
      for (; begin < end; ++begin) {
        for (auto const& steps : plain_) {
          std::vector<std::uint32_t> here{reached[begin]};
          for (auto const& step : steps) {
            std::vector<std::uint32_t> next;
            for (auto const s : here) {
              for (unsigned byte = step.first; byte <= step.last; ++byte) {
                auto const [what, to] = automaton_.look(s, static_cast<unsigned char>(byte));
                if (what != action::move) { return false; }
                if (std::ranges::find(next, to) == next.end()) { next.push_back(to); }
              }
            }
            here = std::move(next);
          }
          for (auto const s : here) {
            if (std::ranges::find(reached, s) == reached.end()) { reached.push_back(s); }
          }
        }
        if (reached.size() > 64) { return false; }
      }
    }
    return true;
  }

  std::shared_ptr<token_trie const> tokens_;
  detail::grammar_automaton automaton_;
  std::size_t max_bytes_;
  std::vector<std::vector<detail::spelled>> plain_;
  std::vector<state_mask> masks_;  // by state
  std::size_t mask_bytes_ = 0;
  std::uint64_t generation_ = 0;
  std::vector<position> path_;  // [0]: the caller's; [1 + d]: after d bytes of the tree
};

}  // namespace tpx
