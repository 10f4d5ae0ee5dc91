// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tpx {

/// A part that keeps its own journal: rewind(n) takes back what the last n tokens did to it.
template <class P>
concept rewindable = requires(P& p, std::size_t tokens) {
  p.rewind(tokens);
};

/// A part with one element for each token: tokens, log-probabilities; not a text's characters.
template <class P>
concept element_a_token = !rewindable<P> && requires(P & p) {
  p.erase(p.end() - std::ptrdiff_t{}, p.end());
  requires !std::same_as<typename P::value_type, char>;
};

/// A part that is a plain value, of which a copy is kept for each token.
template <class P>
concept plain_value = !rewindable<P> && !element_a_token<P> && std::is_trivially_copyable_v<P>;

/// Makes a part of what is kept elsewhere: `Undo` takes back the last n tokens there.
template <std::invocable<std::size_t> Undo>
struct on_rewind {
  Undo undo;
  void rewind(std::size_t tokens) { undo(tokens); }
};
template <class Undo>
on_rewind(Undo) -> on_rewind<Undo>;

/// All that a token changes of a sequence, so that tokens can be taken back: for banned strings and
/// refused drafts alike.
///
///   transaction t{16, filter, sampler_state, tokens, on_rewind{[&](std::size_t n) { ... }}};
///   t.begin_token();         // then each part takes the token up
///   t.rewind(3);             // every part is as it was before the last three
///
/// Parts are of three kinds: rewindable, element_a_token, plain_value. They live in the transaction
/// and are what get<Part>() gives; a type occurs once. What has been begun and not been kept can be
/// taken back, up to `depth` tokens: memory is depth copies of the plain values, and after the
/// construction only the parts allocate.
template <class... Parts>
class transaction {
  static_assert(((rewindable<Parts> || element_a_token<Parts> || plain_value<Parts>)&&...),
                "a part has rewind(tokens), or one element a token, or is trivially copyable");

 public:
  explicit transaction(std::size_t depth, Parts... parts)
      : parts_{std::move(parts)...}, saved_(depth) {}

  template <class Part>
  [[nodiscard]] Part& get() noexcept {
    return std::get<Part>(parts_);
  }
  template <class Part>
  [[nodiscard]] Part const& get() const noexcept {
    return std::get<Part>(parts_);
  }

  /// Before a token changes any part. Every part then has to take it up.
  void begin_token() {
    if (!saved_.empty()) { saved_[begun_ % saved_.size()] = plain(); }
    ++begun_;
    open_ = std::min(open_ + 1, saved_.size());
  }

  /// How many tokens can be taken back.
  [[nodiscard]] std::size_t depth() const noexcept { return open_; }

  /// Takes back the last `tokens`, in the order of the parts. Throws invalid_argument, and nothing
  /// has changed, if they are more than depth().
  void rewind(std::size_t tokens) {
    expects(
      tokens <= open_,
      [&] {
        return "a rewind by " + std::to_string(tokens) + " tokens, of " + std::to_string(open_) +
               " that can be taken back";
      },
      "give the transaction the greatest depth of a draft or a banned string");
    if (tokens == 0) { return; }
    begun_ -= tokens;
    open_ -= tokens;
    auto const& before = saved_[begun_ % saved_.size()];
    std::apply([&](Parts&... part) { (undo(part, tokens, before), ...); }, parts_);
  }

  /// The tokens so far stay: no rewind goes beyond them.
  void keep() noexcept { open_ = 0; }

 private:
  template <class Part>
  using copied = std::conditional_t<plain_value<Part>, std::tuple<Part>, std::tuple<>>;
  using values = decltype(std::tuple_cat(std::declval<copied<Parts>>()...));

  template <class Part>
  static copied<Part> copy_of(Part const& part) {
    if constexpr (plain_value<Part>) {
      return {part};
    } else {
      return {};
    }
  }
  values plain() const {
    return std::apply([](Parts const&... part) { return std::tuple_cat(copy_of(part)...); },
                      parts_);
  }
  template <class Part>
  static void undo(Part& part, std::size_t tokens, values const& before) {
    if constexpr (rewindable<Part>) {
      part.rewind(tokens);
    } else if constexpr (element_a_token<Part>) {
      part.erase(part.end() - static_cast<std::ptrdiff_t>(tokens), part.end());
    } else {
      part = std::get<Part>(before);
    }
  }

  std::tuple<Parts...> parts_;
  std::vector<values> saved_;  // a ring: before token t, those at t % depth
  std::size_t begun_ = 0;      // tokens
  std::size_t open_ = 0;       // of these, how many can be taken back
};

}  // namespace tpx
