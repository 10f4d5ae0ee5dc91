// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// What matchers and text streams do, said by searching whole texts again and again.

#include <tpx/generator/text_pattern.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
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

/// A code point in UTF-8.
inline std::string encode(char32_t code) {
  auto const byte = [](char32_t bits) { return static_cast<char>(bits); };
  if (code < 0x80) { return {byte(code)}; }
  if (code < 0x800) { return {byte(0xc0 | code >> 6), byte(0x80 | (code & 0x3f))}; }
  std::string const end{byte(0x80 | (code >> 6 & 0x3f)), byte(0x80 | (code & 0x3f))};
  if (code < 0x10000) { return byte(0xe0 | code >> 12) + end; }
  return std::string{byte(0xf0 | code >> 18), byte(0x80 | (code >> 12 & 0x3f))} + end;
}

/// All of Unicode but the surrogates.
inline std::vector<std::string> const& characters() {
  static std::vector<std::string> const all = [] {
    std::vector<std::string> found;
    for (char32_t code = 0; code < 0x110000; ++code) {
      if (code < 0xd800 || code > 0xdfff) { found.push_back(encode(code)); }
    }
    return found;
  }();
  return all;
}

/// The beginnings of characters: one to three bytes, to which some are lacking.
inline std::set<std::string> const& character_beginnings() {
  static std::set<std::string> const all = [] {
    std::set<std::string> found;
    std::string last;
    for (auto character : characters()) {
      character.pop_back();
      if (character == last) { continue; }
      last = character;
      for (; !character.empty(); character.pop_back()) { found.insert(character); }
    }
    return found;
  }();
  return all;
}

/// How many bytes at the end of `text` begin a character that is not all there.
inline std::size_t unfinished(std::string_view text) {
  for (std::size_t n = std::min<std::size_t>(3, text.size()); n > 0; --n) {
    if (character_beginnings().contains(std::string{text.substr(text.size() - n)})) { return n; }
  }
  return 0;
}

}  // namespace naive
