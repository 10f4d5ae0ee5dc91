// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/char_set.hpp>
#include <tpx/generator/grammar_utf8.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace tpx::detail {

/// One step of a spelling: a byte of a range, or a hexadecimal digit, in either case, of a range of
/// values.
struct spelled {
  std::uint8_t first;
  std::uint8_t last;
  bool hex;

  bool operator==(spelled const&) const = default;
};

/// Cuts the numbers `first` to `last` of `digits` digits, `bits` bits each, into sequences of
/// ranges of digits, and gives each to `emit`.
template <class Digits, class Emit>
void split_digits(char32_t first, char32_t last, int digits, int bits, Digits& before,
                  Emit const& emit) {
  int const shift = bits * (digits - 1);
  char32_t const low = (char32_t{1} << shift) - 1;
  char32_t a = first >> shift;
  char32_t b = last >> shift;
  auto const with = [&](char_range digit, char32_t from, char32_t to) {
    before.push_back(digit);
    if (digits == 1) {
      emit(before);
    } else {
      split_digits(from, to, digits - 1, bits, before, emit);
    }
    before.pop_back();
  };
  if (a == b && digits > 1) { return with({a, a}, first & low, last & low); }
  if ((first & low) != 0) {
    with({a, a}, first & low, low);
    ++a;
  }
  bool const tail = (last & low) != low;
  if (a + (tail ? 1 : 0) <= b) { with({a, b - (tail ? 1 : 0)}, 0, low); }
  if (tail) { with({b, b}, 0, last & low); }
}

/// How the bytes of a text stand for characters.
enum class spelling {
  utf8,  // as they are
  json   // inside a JSON string: as they are, by \n and the like, and by \u and four digits
};

/// Gives each way to write a character of `set` to `emit`, as a sequence of `spelled`.
template <class Emit>
void spell(char_set const& set, spelling how, Emit const& emit) {
  std::vector<char_range> digits;
  std::vector<spelled> steps;
  auto const byte = [](char32_t first, char32_t last) {
    return spelled{static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(last), false};
  };
  char_set const plain =
    how == spelling::utf8 ? set : set & char_set{{0x20, 0x21}, {0x23, 0x5b}, {0x5d, last_char}};
  for (auto const& length : utf8_lengths) {
    auto const here = plain & char_set{length.chars};
    for (auto const& range : here.ranges()) {
      split_digits(range.first, range.last, length.bytes, 6, digits, [&](auto const& of) {
        constexpr char32_t leads[]{0, 0, 0xc0, 0xe0, 0xf0};
        steps.clear();
        for (auto const& d : of) {
          char32_t const mark = steps.empty() ? leads[length.bytes] : 0x80;
          steps.push_back(byte(mark + d.first, mark + d.last));
        }
        emit(steps);
      });
    }
  }
  if (how == spelling::utf8) { return; }
  constexpr std::string_view escaped = "\"\\/\b\f\n\r\t";
  constexpr std::string_view letters = "\"\\/bfnrt";
  auto const escape = [&](char letter) {
    steps.push_back(byte('\\', '\\'));
    steps.push_back(byte(static_cast<unsigned char>(letter), static_cast<unsigned char>(letter)));
  };
  for (std::size_t i = 0; i < escaped.size(); ++i) {
    if (!set.contains(static_cast<unsigned char>(escaped[i]))) { continue; }
    steps.clear();
    escape(letters[i]);
    emit(steps);
  }
  // Hexadecimal digits of `first` to `last` after a \u, in front of what `then` adds.
  auto const unit = [&](char32_t first, char32_t last, auto const& then) {
    std::vector<char_range> hex;
    split_digits(first, last, 4, 4, hex, [&](auto const& of) {
      auto const before = steps.size();
      escape('u');
      for (auto const& d : of) {
        steps.push_back(
          {static_cast<std::uint8_t>(d.first), static_cast<std::uint8_t>(d.last), true});
      }
      then();
      steps.resize(before);
    });
  };
  steps.clear();
  for (auto const& length : utf8_lengths) {
    auto const here = set & char_set{length.chars};
    for (auto const& range : here.ranges()) {
      if (length.bytes < 4) {
        unit(range.first, range.last, [&] { emit(steps); });
        continue;
      }
      split_digits(range.first - 0x10000, range.last - 0x10000, 2, 10, digits, [&](auto const& of) {
        auto const low = of[1];
        unit(0xd800 + of[0].first, 0xd800 + of[0].last,
             [&] { unit(0xdc00 + low.first, 0xdc00 + low.last, [&] { emit(steps); }); });
      });
    }
  }
}

}  // namespace tpx::detail
