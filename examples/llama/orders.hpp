// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/command_channel.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace llama {

/// What rank 0 tells the others to do with their parts of a model, as words. All ranks make one.
class orders {
 public:
  enum : std::uint32_t { step, step_own, sample, copy, store, fetch, end };  // the first word

  explicit orders(tpx::group& g) : channel_{g, 0, "orders"} {}

  /// Rank 0 writes an order here, then sends it to all. It stays until the next begin().
  void begin(std::uint32_t what) { words_.assign(1, what); }
  void add(std::size_t word) { words_.push_back(static_cast<std::uint32_t>(word)); }
  template <class T>
  void add(std::span<T const> words) {
    words_.insert(words_.end(), words.begin(), words.end());
  }
  void send() {
    for (std::size_t at = 0; at < words_.size(); at += message::capacity) {
      message m;
      m.left = static_cast<std::uint32_t>(words_.size() - at);
      std::copy_n(words_.data() + at, m.size(), m.words.data());
      channel_.send(m);
    }
  }

  /// The next order, however long it takes to come; valid until the next call.
  std::span<std::uint32_t const> receive() {
    auto m = channel_.receive(tpx::idle_forever);
    words_.clear();
    for (;;) {
      words_.insert(words_.end(), m.words.begin(), m.words.begin() + m.size());
      if (m.left <= message::capacity) { return words_; }
      m = channel_.receive();
    }
  }

 private:
  struct message {
    static constexpr std::uint32_t capacity = 255;
    std::uint32_t left;  // words of the order from here on
    std::array<std::uint32_t, capacity> words{};
    [[nodiscard]] std::uint32_t size() const { return std::min(left, capacity); }
  };

  tpx::command_channel<message> channel_;
  std::vector<std::uint32_t> words_;
};

}  // namespace llama
