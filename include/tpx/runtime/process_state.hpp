// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstring>
#include <fcntl.h>
#include <string>
#include <unistd.h>

namespace tpx::detail {

/// Whether a process is stopped by a signal or a debugger: state T or t in /proc/<pid>/stat
/// (proc_pid_stat(5)). False where it cannot be told.
[[nodiscard]] inline bool process_stopped(int pid) noexcept {
  if (pid <= 0) { return false; }
  int const file = ::open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) { return false; }
  char text[256];
  auto const n = ::read(file, text, sizeof(text) - 1);
  ::close(file);
  if (n <= 0) { return false; }
  text[n] = 0;
  char const* const name_end = std::strrchr(text, ')');  // the name may hold anything
  return name_end != nullptr && name_end + 2 < text + n &&
         (name_end[2] == 'T' || name_end[2] == 't');
}

}  // namespace tpx::detail
