// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <string_view>

namespace llama {

/// The first character of a text, as UTF-8 sees it.
struct utf8_step {
  std::size_t bytes = 0;  // 1..4; for a byte that begins no character, 1
  char32_t code = 0;      // the code point, when valid
  bool valid = false;
  bool cut = false;  // not valid, but may become so when more bytes follow
};

/// Reads the first character of `text`, which is not empty. Overlong forms, surrogates and code
/// points over U+10FFFF are not valid (Unicode 15, table 3-7).
[[nodiscard]] constexpr utf8_step first_character(std::string_view text) noexcept {
  auto const at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned const lead = at(0);
  if (lead < 0x80) { return {1, lead, true, false}; }
  if (lead < 0xc2 || lead > 0xf4) { return {1, 0, false, false}; }
  std::size_t const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  unsigned const lowest = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  unsigned const highest = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  char32_t code = lead & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) { return {1, 0, false, true}; }
    if (at(i) < (i == 1 ? lowest : 0x80) || at(i) > (i == 1 ? highest : 0xbf)) {
      return {1, 0, false, false};
    }
    code = code << 6 | (at(i) & 0x3fU);
  }
  return {length, code, true, false};
}

/// Bytes of valid UTF-8 at the front of `text`.
[[nodiscard]] constexpr std::size_t valid_prefix(std::string_view text) noexcept {
  std::size_t done = 0;
  while (done < text.size()) {
    auto const step = first_character(text.substr(done));
    if (!step.valid) { break; }
    done += step.bytes;
  }
  return done;
}

/// Whether Unicode's NFC leaves `text` as it is, as far as the quick check of UAX #15 can tell:
/// false also where a mark might join the letter before it. Bytes that are not UTF-8 stand alone.
/// Tables of Unicode 14; later characters count as standing alone.
[[nodiscard]] bool surely_nfc(std::string_view text) noexcept;

}  // namespace llama
