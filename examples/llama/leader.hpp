// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "orders.hpp"

#include <tpx/generator/model.hpp>

#include <concepts>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

namespace llama {

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

  /// All logits, gathered.
  std::span<float> forward(std::span<tpx::step_part const> parts) {
    return forward(orders::step, parts, [&] { return model_.forward(parts); });
  }

  /// Those of this rank's part of the vocabulary; so have the others theirs.
  std::span<float> forward_own(std::span<tpx::step_part const> parts) {
    return forward(orders::step_own, parts, [&] { return model_.forward_own(parts); });
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
  template <class F>
  std::span<float> forward(std::uint32_t what, std::span<tpx::step_part const> parts, F&& own) {
    model_.check(parts);
    orders_.begin(what);
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
      return own();
    } catch (std::exception const& e) {  // the others are in the step
      if (!group_.me().aborted()) { group_.abort(tpx::errc::rank_failed, e.what()); }
      group_.check();
      throw;
    }
  }

  void move(std::uint32_t what, std::uint32_t from, std::uint32_t to, std::size_t tokens) {
    orders_.begin(what);
    for (auto const n : {std::size_t{from}, std::size_t{to}, tokens}) { orders_.add(n); }
    orders_.send();
  }

  tpx::group& group_;
  Model& model_;
  orders& orders_;
};

/// The same, with the logits of rank 0's part of the vocabulary: for a leading_sampler.
template <class Model>
class part_leader : public leader<Model> {
 public:
  part_leader(tpx::group& g, Model& own, orders& to)
      : leader<Model>{g, own, to}, columns_{own.own().size()} {}

  [[nodiscard]] std::size_t columns() const { return columns_; }
  std::span<float> forward(std::span<tpx::step_part const> parts) {
    return this->forward_own(parts);
  }

 private:
  std::size_t columns_;
};

/// Carries out what rank 0's leader tells, with this rank's part of the model, until the leader
/// ends; sample(words) what its leading_sampler does. Errors: those of the model and of the group;
/// let run_ranks() have them.
template <class Model, std::invocable<std::span<std::uint32_t const>> Sample>
void follow(Model& own, orders& from, Sample&& sample) {
  std::vector<tpx::step_part> parts;
  std::vector<tpx::page_copy> copies;
  for (;;) {
    auto words = from.receive();
    auto const take = [&](std::size_t n) {
      auto const front = words.first(n);
      words = words.subspan(n);
      return front;
    };
    auto const what = take(1)[0];
    switch (what) {
      case orders::step:
      case orders::step_own:
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
        static_cast<void>(what == orders::step ? own.forward(parts) : own.forward_own(parts));
        break;
      case orders::sample:
        sample(words);
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

/// Of a leader without a leading_sampler.
template <class Model>
void follow(Model& own, orders& from) {
  follow(own, from, [](auto) {});
}

}  // namespace llama
