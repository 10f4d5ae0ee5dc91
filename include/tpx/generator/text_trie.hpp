// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace tpx::detail {

/// An automaton that knows after each symbol the longest end of the text that begins a word, and
/// the longest word that ends there (Aho and Corasick, CACM 1975). Node 0 is the root.
class text_trie {
 public:
  static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

  explicit text_trie(std::size_t symbols) : symbols_{symbols}, next_(symbols), word_{none} {}

  /// Of equal words the first is told.
  template <class Word>
  void add(Word const& word, std::uint32_t number) {
    std::uint32_t node = 0;
    for (auto const symbol : word) {
      auto const edge = node * symbols_ + symbol;
      if (next_[edge] == 0) {
        next_[edge] = static_cast<std::uint32_t>(word_.size());
        next_.resize(next_.size() + symbols_);
        word_.push_back(none);
      }
      node = next_[edge];
    }
    if (word_[node] == none) { word_[node] = number; }
  }

  /// To be called once, after the last word. Costs nodes times symbols.
  void complete() {
    std::vector<std::uint32_t> fail(word_.size()), queue{0};
    for (std::size_t i = 0; i < queue.size(); ++i) {
      auto const node = queue[i];
      for (std::size_t symbol = 0; symbol < symbols_; ++symbol) {
        auto& to = next_[node * symbols_ + symbol];
        auto const shorter = node == 0 ? 0 : next_[fail[node] * symbols_ + symbol];
        if (to == 0) {
          to = shorter;
        } else {
          fail[to] = shorter;
          if (word_[to] == none) { word_[to] = word_[shorter]; }
          queue.push_back(to);
        }
      }
    }
  }

  [[nodiscard]] std::uint32_t next(std::uint32_t node, std::size_t symbol) const {
    return next_[node * symbols_ + symbol];
  }
  /// The longest word that ends here, or none.
  [[nodiscard]] std::uint32_t word(std::uint32_t node) const { return word_[node]; }
  [[nodiscard]] std::size_t nodes() const { return word_.size(); }

 private:
  std::size_t symbols_;
  std::vector<std::uint32_t> next_;  // (nodes, symbols)
  std::vector<std::uint32_t> word_;
};

}  // namespace tpx::detail
