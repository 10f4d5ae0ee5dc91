// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/unix_socket.hpp>

#include <sys/syscall.h>

namespace tpx::detail {

/// A handle of process `pid` that becomes readable when it ends (pidfd_open(2), Linux 5.3 and
/// newer); empty if it ended already.
[[nodiscard]] inline unique_fd open_pidfd(int pid) {
  unique_fd opened{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  if (opened || errno == ESRCH) { return opened; }
  if (errno == EMFILE || errno == ENFILE) { throw system_error("pidfd_open"); }
  throw error{errc::unsupported,
              "no handle of process " + std::to_string(pid) + ": " +
                std::strerror(errno),  // NOLINT(concurrency-mt-unsafe)
              {.remedy = "ranks as processes need Linux 5.3 and one PID namespace for all ranks"}};
}

/// The same of the process that connected to `fd`: the kernel's own handle where it gives one
/// (SO_PEERPIDFD, Linux 6.5), else by number. The number is still that process's if the connection
/// turns out to be open afterwards.
[[nodiscard]] inline unique_fd peer_pidfd(unique_fd const& fd, int pid) {
  constexpr int so_peerpidfd = 77;
  int raw = -1;
  socklen_t length = sizeof(raw);
  if (::getsockopt(fd.get(), SOL_SOCKET, so_peerpidfd, &raw, &length) == 0) {
    return unique_fd{raw};
  }
  return open_pidfd(pid);
}

}  // namespace tpx::detail
