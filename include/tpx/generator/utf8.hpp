// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tpx {

namespace detail {

/// What a byte promises as the first of a character (Unicode 15, table 3-7).
struct utf8_lead {
  std::size_t length;    // of the character, in bytes; 0: it begins none
  unsigned char lowest;  // that its second byte may be
  unsigned char highest;
};

[[nodiscard]] constexpr utf8_lead lead_of(char first) noexcept {
  auto const byte = static_cast<unsigned char>(first);
  if (byte < 0x80) { return {1, 0, 0}; }
  if (byte < 0xc2 || byte > 0xf4) { return {0, 0, 0}; }
  if (byte < 0xe0) { return {2, 0x80, 0xbf}; }
  if (byte < 0xf0) {
    return {3, static_cast<unsigned char>(byte == 0xe0 ? 0xa0 : 0x80),
            static_cast<unsigned char>(byte == 0xed ? 0x9f : 0xbf)};
  }
  return {4, static_cast<unsigned char>(byte == 0xf0 ? 0x90 : 0x80),
          static_cast<unsigned char>(byte == 0xf4 ? 0x8f : 0xbf)};
}

/// Bytes of the first character of `text`, which is not empty, as far as they are there and right.
[[nodiscard]] constexpr std::size_t well_formed_part(std::string_view text) noexcept {
  auto const lead = lead_of(text[0]);
  std::size_t n = lead.length == 0 ? 0 : 1;
  while (n < lead.length && n < text.size()) {
    auto const byte = static_cast<unsigned char>(text[n]);
    if (byte < (n == 1 ? lead.lowest : 0x80) || byte > (n == 1 ? lead.highest : 0xbf)) { break; }
    ++n;
  }
  return n;
}

}  // namespace detail

/// How many bytes at the end of `text` begin a character that more bytes may complete: 0 to 3.
[[nodiscard]] constexpr std::size_t incomplete_utf8(std::string_view text) noexcept {
  for (std::size_t n = 1; n <= 3 && n <= text.size(); ++n) {
    auto const end = text.substr(text.size() - n);
    auto const byte = static_cast<unsigned char>(end[0]);
    if (byte >= 0x80 && byte < 0xc0) { continue; }
    return detail::well_formed_part(end) == n && n < detail::lead_of(end[0]).length ? n : 0;
  }
  return 0;
}

/// Appends `text` with U+FFFD in place of whatever is not UTF-8, one for each longest beginning of
/// a character (Unicode 15, section 3.9). Texts that a text_stream sent one after the other give
/// what their whole gives.
inline void append_valid_utf8(std::string& to, std::string_view text) {
  while (!text.empty()) {
    std::size_t const n = detail::well_formed_part(text);
    if (n > 0 && n == detail::lead_of(text[0]).length) {
      to += text.substr(0, n);
    } else {
      to += "\xef\xbf\xbd";
    }
    text.remove_prefix(n > 0 ? n : 1);
  }
}

}  // namespace tpx
