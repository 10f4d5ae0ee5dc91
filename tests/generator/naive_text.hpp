// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// What matchers and text streams do, said by searching whole texts again and again.

#include <tpx/generator/text_pattern.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace naive {

using pattern_list = std::vector<tpx::text_pattern>;

inline std::string lower(std::string_view text) {
  std::string out{text};
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') { c = static_cast<char>(c + 32); }
  }
  return out;
}

inline bool ends_with(std::string_view text, tpx::text_pattern const& p) {
  return p.ignore_case ? lower(text).ends_with(lower(p.text)) : text.ends_with(p.text);
}

/// The text of a scope, and which.
struct scoped {
  std::uint32_t scope = 0;
  std::string text = {};
};

/// Adds a byte; the pattern that is found with it, if it is no Enter.
inline std::optional<std::size_t> add(scoped& now, char byte, pattern_list const& patterns) {
  now.text += byte;
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    auto const& p = patterns[i];
    if ((p.scopes >> now.scope & 1) == 1 && ends_with(now.text, p) &&
        (!best || p.text.size() > patterns[*best].text.size())) {
      best = i;
    }
  }
  if (best && patterns[*best].action == tpx::text_action::Enter) {
    now = {patterns[*best].enters, ""};
    return std::nullopt;
  }
  return best;
}

/// The most bytes at the end of `now` that are part of a match with `action` after some further
/// bytes of the alphabet: tries them all.
inline std::size_t depth(scoped const& now, pattern_list const& patterns, tpx::text_action action,
                         std::string_view alphabet, std::size_t further) {
  std::size_t most = 0;
  if (further == 0) { return most; }
  for (char const c : alphabet) {
    auto next = now;
    auto const found = add(next, c, patterns);
    if (found) {
      if (patterns[*found].action == action) {
        most = std::max(most, patterns[*found].text.size() - 1);
      }
    } else if (next.text.size() > now.text.size()) {
      auto const after = depth(next, patterns, action, alphabet, further - 1);
      most = std::max(most, after == 0 ? 0 : after - 1);
    }
  }
  return std::min(most, now.text.size());
}

inline std::size_t longest(pattern_list const& patterns) {
  std::size_t n = 0;
  for (auto const& p : patterns) { n = std::max(n, p.text.size()); }
  return n;
}

/// Whether `text` is the beginning of a character's UTF-8, but not all of it.
inline bool begins_character(std::string_view text) {
  auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (char32_t first = 0x80; first < 0x110000; first += 0x40) {  // the last 6 bits do not matter
    if (first >= 0xd800 && first < 0xe000) { continue; }
    std::vector<unsigned char> bytes;
    if (first < 0x800) {
      bytes = {static_cast<unsigned char>(0xc0 | first >> 6)};
    } else if (first < 0x10000) {
      bytes = {static_cast<unsigned char>(0xe0 | first >> 12),
               static_cast<unsigned char>(0x80 | (first >> 6 & 0x3f))};
    } else {
      bytes = {static_cast<unsigned char>(0xf0 | first >> 18),
               static_cast<unsigned char>(0x80 | (first >> 12 & 0x3f)),
               static_cast<unsigned char>(0x80 | (first >> 6 & 0x3f))};
    }
    if (text.size() > bytes.size()) { continue; }
    bool same = true;
    for (std::size_t i = 0; i < text.size(); ++i) { same = same && byte(i) == bytes[i]; }
    if (same) { return true; }
  }
  return false;
}

}  // namespace naive
