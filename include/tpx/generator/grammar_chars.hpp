// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tpx::detail {

inline constexpr char32_t last_char = 0x10ffff;

struct char_range {
  char32_t first;
  char32_t last;
};

/// The code points that UTF-8 gives one length, and that length; surrogates are no characters.
struct utf8_length {
  char_range chars;
  int bytes;
};
inline constexpr utf8_length utf8_lengths[]{{{0, 0x7f}, 1},
                                            {{0x80, 0x7ff}, 2},
                                            {{0x800, 0xd7ff}, 3},
                                            {{0xe000, 0xffff}, 3},
                                            {{0x10000, last_char}, 4}};

/// A set of code points.
class char_set {
 public:
  char_set() = default;
  char_set(std::initializer_list<char_range> ranges) {
    for (auto const& range : ranges) { add(range); }
  }

  void add(char_range range) {
    ranges_.push_back(range);
    std::sort(ranges_.begin(), ranges_.end(),
              [](char_range a, char_range b) { return a.first < b.first; });
    std::size_t kept = 0;
    for (auto const& next : ranges_) {
      if (kept > 0 && next.first <= ranges_[kept - 1].last + 1) {
        ranges_[kept - 1].last = std::max(ranges_[kept - 1].last, next.last);
      } else {
        ranges_[kept++] = next;
      }
    }
    ranges_.resize(kept);
  }

  void add(char_set const& set) {
    for (auto const& range : set.ranges_) { add(range); }
  }

  /// All that are not in this set.
  [[nodiscard]] char_set complement() const {
    char_set others;
    char32_t next = 0;
    for (auto const& range : ranges_) {
      if (range.first > next) { others.ranges_.push_back({next, range.first - 1}); }
      next = range.last + 1;
    }
    if (next <= last_char) { others.ranges_.push_back({next, last_char}); }
    return others;
  }

  /// Those that are in `set` too.
  [[nodiscard]] char_set operator&(char_set const& set) const {
    char_set neither = complement();
    neither.add(set.complement());
    return neither.complement();
  }

  [[nodiscard]] bool contains(char32_t c) const {
    return std::any_of(ranges_.begin(), ranges_.end(),
                       [c](char_range r) { return r.first <= c && c <= r.last; });
  }

  /// Sorted, with gaps between them.
  [[nodiscard]] std::span<char_range const> ranges() const { return ranges_; }

 private:
  std::vector<char_range> ranges_;
};

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
  for (auto const& [chars, bytes] : utf8_lengths) {
    auto const here = plain & char_set{chars};
    for (auto const& range : here.ranges()) {
      split_digits(range.first, range.last, bytes, 6, digits, [&](auto const& of) {
        constexpr char32_t leads[]{0, 0, 0xc0, 0xe0, 0xf0};
        steps.clear();
        for (auto const& d : of) {
          char32_t const mark = steps.empty() ? leads[bytes] : 0x80;
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
  for (auto const& [chars, bytes] : utf8_lengths) {
    auto const here = set & char_set{chars};
    for (auto const& range : here.ranges()) {
      if (bytes < 4) {
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

/// Reads the character at `at` of `text` and goes past it; -1, staying there, where none is whole
/// and well-formed.
[[nodiscard]] inline std::int32_t read_char(std::string_view text, std::size_t& at) {
  if (at >= text.size()) { return -1; }
  auto const byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[i]));
  };
  char32_t const lead = byte(at);
  int const bytes = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (text.size() - at < static_cast<std::size_t>(bytes) || (lead >= 0x80 && lead < 0xc2)) {
    return -1;
  }
  char32_t c = bytes == 1 ? lead : lead & (0xffu >> (bytes + 1));
  for (int i = 1; i < bytes; ++i) {
    auto const next = byte(at + static_cast<std::size_t>(i));
    if ((next & 0xc0) != 0x80) { return -1; }
    c = c << 6 | (next & 0x3f);
  }
  for (auto const& length : utf8_lengths) {
    if (length.bytes == bytes && length.chars.first <= c && c <= length.chars.last) {
      at += static_cast<std::size_t>(bytes);
      return static_cast<std::int32_t>(c);
    }
  }
  return -1;
}

/// Adds a character to a text as UTF-8.
inline void write_char(std::string& text, char32_t c) {
  auto const put = [&](char32_t byte) {
    text += static_cast<char>(static_cast<unsigned char>(byte));
  };
  if (c < 0x80) { return put(c); }
  int const bytes = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  put((0xf00u >> bytes & 0xffu) | c >> (6 * (bytes - 1)));
  for (int i = bytes - 2; i >= 0; --i) { put(0x80u | (c >> (6 * i) & 0x3f)); }
}

}  // namespace tpx::detail
