// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/model.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tpx {

/// The first `tokens` positions of a page go to a host page or come from it, after the first
/// `after` of the copies and before the others.
struct host_move {
  enum class way : std::uint8_t { store, fetch };
  way direction;
  page_id page;
  std::uint32_t host;
  std::size_t tokens;
  std::size_t after;
};

/// What a model must do to its cache, in order of time: page copies and moves to and from the host
/// are one list, of which copies() and host_moves() are the two kinds.
class page_moves {
 public:
  /// Allocates nothing as long as fewer than `copies` and `host` wait.
  page_moves(std::size_t copies, std::size_t host) {
    copies_.reserve(copies);
    host_.reserve(host);
  }

  [[nodiscard]] std::span<page_copy const> copies() const {
    return std::span{copies_}.subspan(copied_);
  }
  [[nodiscard]] std::span<host_move const> host_moves() const {
    return std::span{host_}.subspan(moved_);
  }

  void copy(page_id from, page_id to, std::size_t tokens) { copies_.push_back({from, to, tokens}); }
  void move(host_move::way direction, page_id page, std::uint32_t host, std::size_t tokens) {
    host_.push_back({direction, page, host, tokens, copies_.size()});
  }

  /// Has the model do all of it, in order, and after each part `others` that keep pages beside it,
  /// such as a draft model: copy() and, where they have them, store() and fetch(). What those throw
  /// is their own affair. After a throw of the model's, what it has done is off the list.
  template <class Model, class... Others>
  void carry_out(Model& model, Others&... others) {
    while (moved_ < host_.size()) {
      host_move const& m = host_[moved_];
      copy_until(m.after, model, others...);
      if constexpr (tiered_model<Model>) {
        do_move(m, model);
      } else {
        expects(false, "a host tier, but the model has no store() and fetch()",
                "construct the page table with host_pages = 0");
      }
      ++moved_;
      (tried([&] { do_move(m, others); }), ...);
    }
    copy_until(copies_.size(), model, others...);
    clear();
  }

  /// All has been done.
  void clear() {
    copies_.clear();
    host_.clear();
    copied_ = 0;
    moved_ = 0;
  }

 private:
  template <class Model, class... Others>
  void copy_until(std::size_t end, Model& model, Others&... others) {
    if (copied_ >= end) { return; }
    auto const part = std::span{std::as_const(copies_)}.subspan(copied_, end - copied_);
    model.copy(part);
    copied_ = end;
    (tried([&] { others.copy(part); }), ...);
  }

  template <class Keeper>
  static void do_move(host_move const& m, Keeper& keeper) {
    if constexpr (requires { keeper.store(m.page, m.host, m.tokens); }) {
      if (m.direction == host_move::way::store) {
        keeper.store(m.page, m.host, m.tokens);
      } else {
        keeper.fetch(m.host, m.page, m.tokens);
      }
    }
  }

  template <class F>
  static void tried(F&& f) {
    try {
      f();
    } catch (...) {}
  }

  std::vector<page_copy> copies_;
  std::vector<host_move> host_;
  std::size_t copied_ = 0;
  std::size_t moved_ = 0;
};

}  // namespace tpx
