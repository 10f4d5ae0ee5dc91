// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tpx::detail {

/// What parsers of small texts begin with: a text, and how far it has been read.
class text_cursor {
 protected:
  /// `name` says what text it is, where something is wrong with it.
  text_cursor(std::string_view text, std::string_view name) : text_{text}, name_{name} {}

  [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
  [[nodiscard]] bool next_is(char c) const { return !at_end() && text_[at_] == c; }
  [[nodiscard]] bool next_is_digit() const {
    return !at_end() && text_[at_] >= '0' && text_[at_] <= '9';
  }

  bool take(char c) {
    bool const there = next_is(c);
    if (there) { ++at_; }
    return there;
  }

  char32_t hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) { value = 16 * value + hex_digit(); }
    return value;
  }

  char32_t hex_digit() {
    constexpr std::string_view digits = "0123456789abcdefABCDEF";
    auto const value = at_end() ? digits.npos : digits.find(text_[at_]);
    if (value == digits.npos) { fail("a hexadecimal digit is missing"); }
    ++at_;
    return static_cast<char32_t>(value < 16 ? value : value - 6);
  }

  /// Throws invalid_argument that tells the byte.
  [[noreturn]] void fail(std::string const& what) const {
    throw error{errc::invalid_argument,
                std::string{name_} + ", byte " + std::to_string(at_) + ": " + what};
  }

  std::string_view text_;
  std::string_view name_;
  std::size_t at_ = 0;
};

}  // namespace tpx::detail
