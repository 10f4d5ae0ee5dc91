// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/command_channel.hpp>
#include <tpx/generator/model.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

namespace llama {

/// What rank 0 tells the others to do with their parts of a model, as words. All ranks make one.
class orders {
 public:
  enum : std::uint32_t { step, copy, store, fetch, end };  // an order's first word

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

/// A model that is cut over the ranks of a group as its rank 0 sees it: a tpx::generator_model and
/// tpx::tiered_model, which tells the other ranks, who are in follow(), what it does.
///
/// What it refuses, with invalid_argument, the others never hear of. Any other error, of whichever
/// rank, is the group's: this rank's call and all later ones throw it, within the group's deadline.
template <class Model>
class leader {
 public:
  static constexpr std::size_t page_size = Model::page_size;

  /// All of them must outlive it.
  leader(tpx::group& g, Model& own, orders& to) : group_{g}, model_{own}, orders_{to} {}

  leader(leader&&) = delete;

  /// Ends the others' follow().
  ~leader() {
    try {
      orders_.begin(orders::end);
      orders_.send();
    } catch (std::exception const&) {}  // the group has ended, and so have they
  }

  [[nodiscard]] std::size_t vocab_size() const { return model_.vocab_size(); }
  [[nodiscard]] std::size_t pages() const { return model_.pages(); }
  [[nodiscard]] std::size_t max_tokens() const { return model_.max_tokens(); }
  [[nodiscard]] std::size_t host_pages() const { return model_.host_pages(); }

  std::span<float> forward(std::span<tpx::step_part const> parts) {
    model_.check(parts);
    orders_.begin(orders::step);
    for (auto const& part : parts) {
      auto const end = part.start + part.tokens.size();
      auto const pages = part.pages.first((end + page_size - 1) / page_size);
      for (auto const n : {part.start, part.rows, part.tokens.size(), pages.size()}) {
        orders_.add(n);
      }
      orders_.add(part.tokens);
      orders_.add(pages);
    }
    orders_.send();
    try {
      return model_.forward(parts);
    } catch (std::exception const& e) {  // the others are in the step
      if (!group_.me().aborted()) { group_.abort(tpx::errc::rank_failed, e.what()); }
      group_.check();
      throw;
    }
  }

  void copy(std::span<tpx::page_copy const> copies) {
    model_.copy(copies);
    orders_.begin(orders::copy);
    for (auto const& c : copies) {
      for (auto const n : {std::size_t{c.from}, std::size_t{c.to}, c.tokens}) { orders_.add(n); }
    }
    orders_.send();
  }

  void store(tpx::page_id page, std::uint32_t host, std::size_t tokens) {
    model_.store(page, host, tokens);
    move(orders::store, page, host, tokens);
  }

  void fetch(std::uint32_t host, tpx::page_id page, std::size_t tokens) {
    model_.fetch(host, page, tokens);
    move(orders::fetch, host, page, tokens);
  }

 private:
  void move(std::uint32_t what, std::uint32_t from, std::uint32_t to, std::size_t tokens) {
    orders_.begin(what);
    for (auto const n : {std::size_t{from}, std::size_t{to}, tokens}) { orders_.add(n); }
    orders_.send();
  }

  tpx::group& group_;
  Model& model_;
  orders& orders_;
};

/// Carries out what rank 0's leader tells, with this rank's part of the model, until the leader
/// ends. Errors: those of the model and of the group; let run_ranks() have them.
template <class Model>
void follow(Model& own, orders& from) {
  std::vector<tpx::step_part> parts;
  std::vector<tpx::page_copy> copies;
  for (;;) {
    auto words = from.receive();
    auto const take = [&](std::size_t n) {
      auto const front = words.first(n);
      words = words.subspan(n);
      return front;
    };
    switch (take(1)[0]) {
      case orders::step:
        parts.clear();
        while (!words.empty()) {
          auto const head = take(4);
          auto const tokens = take(head[2]);
          parts.push_back(
            {.tokens = {reinterpret_cast<tpx::token_id const*>(tokens.data()), tokens.size()},
             .start = head[0],
             .pages = take(head[3]),
             .rows = head[1],
             .slot = 0});
        }
        own.forward(parts);
        break;
      case orders::copy:
        copies.clear();
        while (!words.empty()) {
          auto const c = take(3);
          copies.push_back({c[0], c[1], c[2]});
        }
        own.copy(copies);
        break;
      case orders::store:
        own.store(words[0], words[1], words[2]);
        break;
      case orders::fetch:
        own.fetch(words[0], words[1], words[2]);
        break;
      default:
        return;
    }
  }
}

}  // namespace llama
