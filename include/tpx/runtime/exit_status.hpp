// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>

namespace tpx::detail {

/// "signal 9 (SIGKILL)" or "exit code 3", of a status as waitpid(2) gives it.
[[nodiscard]] inline std::string describe_exit(int status) {
  if (!WIFSIGNALED(status)) { return "exit code " + std::to_string(WEXITSTATUS(status)); }
  constexpr std::string_view names[]{"",    "HUP",  "INT",  "QUIT", "ILL",  "TRAP", "ABRT", "BUS",
                                     "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM"};
  int const number = WTERMSIG(status);
  std::string text = "signal " + std::to_string(number);
  if (number < static_cast<int>(std::size(names))) {
    text += " (SIG";
    text += names[number];
    text += ')';
  }
  return text;
}

/// How a process that its parent has not reaped yet ended, from the last field of /proc/<pid>/stat
/// (proc_pid_stat(5): readable by its own user); "" where it cannot be told.
[[nodiscard]] inline std::string zombie_exit(int pid) {
  int const file = ::open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) { return {}; }
  char text[1024];
  auto const n = ::read(file, text, sizeof(text));
  ::close(file);
  std::string_view stat{text, static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
  while (!stat.empty() && stat.back() == '\n') { stat.remove_suffix(1); }
  auto const name_end = stat.rfind(')');
  auto const last = stat.rfind(' ');
  if (name_end == stat.npos || last == stat.npos || stat.substr(name_end, 3) != ") Z") {
    return {};
  }
  int status = 0;
  auto const end = stat.data() + stat.size();
  if (std::from_chars(stat.data() + last + 1, end, status).ptr != end) { return {}; }
  return describe_exit(status);
}

}  // namespace tpx::detail
