// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "child.hpp"

#include <tpx/runtime/shared_memory.hpp>

#include <cerrno>
#include <climits>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace llama {

std::string program_path() {
  std::string path(PATH_MAX, '\0');
  auto const length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length < 0) { throw tpx::detail::system_error("reading /proc/self/exe"); }
  path.resize(static_cast<std::size_t>(length));
  return path;
}

std::string program_folder() {
  auto const path = program_path();
  return path.substr(0, path.rfind('/'));
}

child_output run_child(std::vector<std::string> const& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) { throw tpx::detail::system_error("pipe2"); }
  tpx::unique_fd const reader{ends[0]};
  tpx::unique_fd writer{ends[1]};
  std::vector<char*> argv;
  for (auto const& a : arguments) { argv.push_back(const_cast<char*>(a.c_str())); }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
  pid_t pid = 0;
  int const failed = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    errno = failed;
    throw tpx::detail::system_error("starting " + arguments[0]);
  }
  writer = tpx::unique_fd{};
  child_output out{{}, 0};
  char buffer[4096];
  for (;;) {
    auto const n = ::read(reader.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) { continue; }
    if (n <= 0) { break; }
    out.text.append(buffer, static_cast<std::size_t>(n));
  }
  while (::waitpid(pid, &out.status, 0) < 0 && errno == EINTR) {}
  return out;
}

}  // namespace llama
