// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/mask.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

namespace tpx {

/// What decides which tokens may come next.
///
///   f.fill(mask)     writes all words of the mask (mask.hpp): which tokens may come next. An end
///                    token is among them exactly where finished() holds.
///   f.accept(token)  goes on; throws invalid_argument for a token that may not come, changing
///   nothing f.rewind(n)      takes the last n accepted tokens back f.finished()     the text so
///   far is whole
///
/// A mask without a bit means that nothing may follow: the text ends if it is finished, else the
/// filter contradicts itself, the vocabulary or another filter.
template <class F>
concept filter = requires(F& f, F const& constant, std::span<std::uint32_t> mask, token_id token,
                          std::size_t tokens) {
  f.fill(mask);
  f.accept(token);
  f.rewind(tokens);
  { constant.finished() } -> std::convertible_to<bool>;
};

/// Allows what all of `Filters` allow.
template <filter... Filters>
requires(sizeof...(Filters) > 0) class every_filter {
 public:
  explicit every_filter(Filters... filters) : filters_{std::move(filters)...} {}

  void fill(std::span<std::uint32_t> mask) {
    other_.resize(mask.size());
    std::get<0>(filters_).fill(mask);
    each_after_first([&](auto& f) {
      f.fill(other_);
      mask_and(mask, other_);
    });
  }

  void accept(token_id token) { accept_from<0>(token); }

  void rewind(std::size_t tokens) {
    std::apply([&](auto&... f) { (f.rewind(tokens), ...); }, filters_);
  }

  [[nodiscard]] bool finished() const {
    return std::apply([](auto const&... f) { return (f.finished() && ...); }, filters_);
  }

 private:
  template <class Visit>
  void each_after_first(Visit visit) {
    std::apply([&](auto&, auto&... f) { (visit(f), ...); }, filters_);
  }

  // Those before one that refuses go back, so that nothing has changed.
  template <std::size_t I>
  void accept_from(token_id token) {
    if constexpr (I < sizeof...(Filters)) {
      std::get<I>(filters_).accept(token);
      try {
        accept_from<I + 1>(token);
      } catch (...) {
        std::get<I>(filters_).rewind(1);
        throw;
      }
    }
  }

  std::tuple<Filters...> filters_;
  std::vector<std::uint32_t> other_;
};

/// Any filter, or none (then everything is allowed and the text is always whole): for jobs with
/// different filters in one batch. One virtual call a member. A copy goes on by itself; copying one
/// that holds what cannot be copied throws unsupported.
class any_filter {
 public:
  any_filter() = default;
  any_filter(any_filter const& other) : held_{other.held_ ? other.held_->copy() : nullptr} {}
  any_filter(any_filter&&) noexcept = default;
  any_filter& operator=(any_filter other) noexcept {
    held_.swap(other.held_);
    return *this;
  }

  template <filter F>
  requires(!std::same_as<F, any_filter>) any_filter(F held)
      : held_{std::make_unique<model<F>>(std::move(held))} {}

  [[nodiscard]] bool has_value() const { return held_ != nullptr; }

  void fill(std::span<std::uint32_t> mask) {
    if (held_) { return held_->fill(mask); }
    mask_allow_all(mask, mask.size() * 32);
  }
  void accept(token_id token) {
    if (held_) { held_->accept(token); }
  }
  void rewind(std::size_t tokens) {
    if (held_) { held_->rewind(tokens); }
  }
  [[nodiscard]] bool finished() const { return !held_ || held_->finished(); }

 private:
  struct held_filter {
    virtual ~held_filter() = default;
    [[nodiscard]] virtual std::unique_ptr<held_filter> copy() const = 0;
    virtual void fill(std::span<std::uint32_t> mask) = 0;
    virtual void accept(token_id token) = 0;
    virtual void rewind(std::size_t tokens) = 0;
    [[nodiscard]] virtual bool finished() const = 0;
  };

  template <class F>
  struct model final : held_filter {
    explicit model(F f) : held{std::move(f)} {}
    [[nodiscard]] std::unique_ptr<held_filter> copy() const override {
      if constexpr (std::copy_constructible<F>) {
        return std::make_unique<model>(held);
      } else {
        throw error{errc::unsupported,
                    "this filter cannot be copied",
                    {.remedy = "a job of several sequences needs one that can"}};
      }
    }
    void fill(std::span<std::uint32_t> mask) override { held.fill(mask); }
    void accept(token_id token) override { held.accept(token); }
    void rewind(std::size_t tokens) override { held.rewind(tokens); }
    [[nodiscard]] bool finished() const override { return held.finished(); }
    F held;
  };

  std::unique_ptr<held_filter> held_;
};

}  // namespace tpx
