// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <vector>

namespace llama {

/// The folder of the running program, and its path.
[[nodiscard]] std::string program_path();
[[nodiscard]] std::string program_folder();

struct child_output {
  std::string text;  // all of its standard output
  int status;        // as waitpid(2) gives it
};

/// Runs a program to its end; it shares this one's standard error.
/// Errors  io: it cannot be started.
[[nodiscard]] child_output run_child(std::vector<std::string> const& arguments);

}  // namespace llama
