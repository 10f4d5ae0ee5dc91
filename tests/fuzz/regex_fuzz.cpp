// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The first line is a regular expression, the rest a text that is offered to it byte by byte.
#include "fuzz.hpp"
#include "fuzz_filter.hpp"

#include <tpx/generator/regex_filter.hpp>

std::vector<std::string> fuzz::seeds() {
  return {"(ab|c)*d?\nabcabd",
          "[^\"\\\\]{2,8}\\d+\nabc\xc3\xa9 12",
          "(a|b)*a(a|b){12}\nabababababababababab",
          "^(?:\\w+@\\w+\\.(com|org))$|x\nab@c.org",
          ".*\n\xf0\x9f\x98\x80 and so on",
          "[\\u{1f600}-\\u{1f64f}\\x41-Z\\s]+?\n\xf0\x9f\x98\x80"};
}

std::vector<std::string> fuzz::words() {
  return {"(?:",          "[^",    "\\d",  "\\W",   "\\S",     "{2,}",   "{0,3}",
          "{1000}",       "|",     "*",    "+?",    "^",       "$",      ")*",
          "(((",          "[a-z]", "\\u{", "\\x41", "\\uffff", ".",      "\xc3\xa9",
          "\xed\xa0\x80", "()",    "[]",   "[^]",   "\n",      "(a|b)*", "\\-",
          "{,3}",         "]",     "}",    "\xff"};
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const input{reinterpret_cast<char const*>(data), size};
  auto const line = std::min(input.find('\n'), input.size());
  try {
    tpx::regex_filter filter{fuzz::trie(), input.substr(0, line), fuzz::tight()};
    fuzz::follow(filter, input.substr(std::min(line + 1, input.size())));
  } catch (tpx::error const&) {}
  return 0;
}
