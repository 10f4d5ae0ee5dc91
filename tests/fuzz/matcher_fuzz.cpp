// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Patterns and a text: see text_cases.hpp. After a match the text begins anew.
#include "text_cases.hpp"

#include <tpx/generator/matcher.hpp>

#include <algorithm>
#include <optional>

namespace {

using fuzz::must;

/// The longest end of the text that begins a pattern: no less may be told than what a match then
/// needs, and no more than this.
std::size_t most(naive::scoped const& now, naive::pattern_list const& patterns) {
  std::size_t longest = 0;
  for (auto const& p : patterns) {
    if (p.action == tpx::text_action::Enter || (p.scopes >> now.scope & 1) == 0) { continue; }
    for (auto n = std::min(p.text.size() - 1, now.text.size()); n > longest; --n) {
      if (naive::ends_with(now.text, {.text = p.text.substr(0, n), .ignore_case = p.ignore_case})) {
        longest = n;
      }
    }
  }
  return longest;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view input{reinterpret_cast<char const*>(data), size};
  auto const patterns = fuzz::take_patterns(input);
  tpx::matcher const m{patterns, fuzz::scopes};
  auto state = m.start();
  naive::scoped now;
  std::vector<std::size_t> depths;
  for (char const byte : input.substr(0, 400)) {
    state = m.next(state, byte);
    auto const found = naive::add(now, byte, patterns);
    must(tpx::matcher::matched(state) == found.has_value(), "a match is found where there is one");
    if (now.text.empty()) { depths.clear(); }
    if (found) {
      must(tpx::matcher::pattern(state) == *found, "the longest match is found");
      auto const length = m.length(*found);
      for (std::size_t back = 1; back < length; ++back) {
        must(depths[depths.size() - back] >= length - back, "a match was held from its first byte");
      }
      now.text.clear();
      depths.clear();
      state = m.start(now.scope);
    } else if (!now.text.empty()) {
      must(m.depth(state) <= most(now, patterns), "no more is held than begins a pattern");
      depths.push_back(m.depth(state));
    }
  }
  return 0;
}
