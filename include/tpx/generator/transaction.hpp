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

/// A part that is a plain value, of which a copy is kept for each token.
template <class P>
concept plain_value = !rewindable<P> && std::is_trivially_copyable_v<P>;

/// All that a token changes of a sequence, so that tokens can be taken back.
///
///   transaction<frontier, any_filter, sampler_state> log{16};
///   log.begin_token(frontier, filter, state);  // then each part takes the token up
///   log.rewind(3, frontier, filter, state);    // all are as they were before the last three
///
/// The parts stay where they are, and every call names all of them. What has been begun can be
/// taken back, up to `depth` tokens: memory is depth copies of the plain values, and after the
/// construction only the parts allocate.
template <class... Parts>
class transaction {
  static_assert(((rewindable<Parts> || plain_value<Parts>)&&...),
                "a part has rewind(tokens), or is trivially copyable");

 public:
  explicit transaction(std::size_t depth) : saved_(depth) {}

  /// Before a token changes any part. Every part then has to take it up.
  void begin_token(Parts const&... parts) {
    if (!saved_.empty()) { saved_[begun_ % saved_.size()] = std::tuple_cat(copy_of(parts)...); }
    ++begun_;
    open_ = std::min(open_ + 1, saved_.size());
  }

  /// How many tokens can be taken back.
  [[nodiscard]] std::size_t depth() const noexcept { return open_; }

  /// Takes back the last `tokens`, in the order of the parts. Throws invalid_argument, and nothing
  /// has changed, if they are more than depth().
  void rewind(std::size_t tokens, Parts&... parts) {
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
    (undo(parts, tokens, before), ...);
  }

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
  template <class Part>
  static void undo(Part& part, std::size_t tokens, values const& before) {
    if constexpr (rewindable<Part>) {
      part.rewind(tokens);
    } else {
      part = std::get<Part>(before);
    }
  }

  std::vector<values> saved_;  // a ring: before token t, those at t % depth
  std::size_t begun_ = 0;      // tokens
  std::size_t open_ = 0;       // of these, how many can be taken back
};

}  // namespace tpx
