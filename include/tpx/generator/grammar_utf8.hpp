// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

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
