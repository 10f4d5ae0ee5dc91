// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// What a fuzz target gives beside LLVMFuzzerTestOneInput, and what it may use.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

/// Reads one input. What it calls may throw tpx::error; anything else that leaves it is a finding.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

namespace fuzz {

/// Inputs that the mutations start from: good ones and nearly good ones.
std::vector<std::string> seeds();

/// Strings of the format that mutations insert.
std::vector<std::string> words();

/// Ends the program unless `condition` holds.
inline void must(bool condition, std::string_view rule) {
  if (!condition) {
    std::cerr << "broken: " << rule << '\n';
    std::abort();
  }
}

}  // namespace fuzz
