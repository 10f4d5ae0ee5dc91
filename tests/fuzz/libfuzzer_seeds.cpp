// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// With libFuzzer: writes the target's seeds into the first folder on the command line.
#include "fuzz.hpp"

#include <filesystem>
#include <fstream>

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    std::filesystem::path const folder{(*argv)[i]};
    if (!std::filesystem::is_directory(folder)) { continue; }
    auto const seeds = fuzz::seeds();
    for (std::size_t n = 0; n < seeds.size(); ++n) {
      std::ofstream{folder / ("seed-" + std::to_string(n)), std::ios::binary} << seeds[n];
    }
    break;
  }
  return 0;
}
