// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// Inputs of the fuzzers of texts: lines of patterns, an empty line, and a text. A line is
//
//   s?0text   a Stop pattern; b: Ban, e: Enter, as capitals: ignoring case
//             the bits of the second character are the scopes, the third is the scope to enter

#include "../generator/naive_text.hpp"
#include "fuzz.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

inline constexpr std::size_t scopes = 4;

/// Takes the patterns, whose bytes stay the input's, off its front.
inline std::vector<tpx::text_pattern> take_patterns(std::string_view& input) {
  std::vector<tpx::text_pattern> patterns;
  while (!input.empty()) {
    auto const line = input.substr(0, input.find('\n'));
    input.remove_prefix(std::min(line.size() + 1, input.size()));
    if (line.empty()) { break; }
    if (line.size() < 4 || line.size() > 40 || patterns.size() == 24) { continue; }
    char const kind = naive::lower(line)[0];
    patterns.push_back({.text = line.substr(3),
                        .action = kind == 'b'   ? tpx::text_action::Ban
                                  : kind == 'e' ? tpx::text_action::Enter
                                                : tpx::text_action::Stop,
                        .ignore_case = kind != line[0],
                        .scopes = static_cast<unsigned char>(line[1]),
                        .enters = static_cast<unsigned char>(line[2]) & 3u});
  }
  return patterns;
}

// A fuzzer is one source file beside the driver, and includes this once.
std::vector<std::string> words() {
  return {"\ns?0", "\nb?0", "\nB?0", "\ne?1", "\n\n",         "STOP",
          "aab",   "ab",    "|",     "<",     "\xe2\x82\xac", "\xc3\xa4"};
}
std::vector<std::string> seeds() {
  return {
    "s?0STOP\nb?0never\n\nsome text |and ST|OP\n",
    "S?0aab\nB?0ab\nb?0aaab\ns?0aaaac\n\n|a|a|a|b|aa|aab<|ab<<|aAaB|a|c",
    "e11</think>\nS20\xe2\x82\xacuro\ns?0\xac\n\nhm|\xe2|\x82|\xac|</thi|nk>\xf0\x9f|\x98|\x80"};
}

}  // namespace fuzz
