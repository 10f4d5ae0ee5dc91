// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/park.hpp>
#include <tpx/runtime/shared_memory.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <poll.h>
#include <span>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <utility>
#include <vector>

// Sockets of this host that carry whole messages and file descriptors: SOCK_SEQPACKET of unix(7).
// None of them blocks, and none survives an exec.
namespace tpx::detail {

inline constexpr int socket_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;

[[nodiscard]] inline unique_fd make_socket() {
  unique_fd fd{::socket(AF_UNIX, SOCK_SEQPACKET | socket_flags, 0)};
  if (!fd) { throw system_error("socket", "raise the limit on open files"); }
  return fd;
}

/// A name in the abstract namespace: no file, gone with the last socket that has it.
struct socket_name {
  sockaddr_un address{};
  socklen_t length = 0;

  explicit socket_name(std::string_view name) {
    address.sun_family = AF_UNIX;
    auto const n = std::min(name.size(), sizeof(address.sun_path) - 1);
    std::memcpy(address.sun_path + 1, name.data(), n);
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
  }
  [[nodiscard]] sockaddr const* get() const { return reinterpret_cast<sockaddr const*>(&address); }
};

/// Who made the socket at the other end (of a listener: who listens). The kernel's word.
[[nodiscard]] inline ucred peer_credentials(unique_fd const& fd) {
  ucred who{};
  socklen_t length = sizeof(who);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) {
    throw system_error("SO_PEERCRED");
  }
  return who;
}

/// Polls until something is ready or now_ns() reaches `until`; how many are. EINTR is no answer.
inline int poll_until(std::span<pollfd> sockets, std::uint64_t until) {
  while (true) {
    auto const now = now_ns();
    auto const left = until > now ? until - now : 0;
    timespec const limit{static_cast<time_t>(left / 1'000'000'000u),
                         static_cast<long>(left % 1'000'000'000u)};
    int const ready = ::ppoll(sockets.data(), sockets.size(), &limit, nullptr);
    if (ready >= 0) { return ready; }
    if (errno != EINTR) { throw system_error("poll"); }
  }
}

/// Sends one message and up to 64 descriptors without waiting; 0 or errno.
[[nodiscard]] inline int send_message(unique_fd const& to, std::span<std::byte const> bytes,
                                      std::span<int const> fds = {}) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::byte room[CMSG_SPACE(64 * sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = room;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(to.get(), &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) { return errno; }
  }
  return 0;
}

struct received {
  long bytes = -1;             // 0: the other end is closed; below 0: nothing there, or -errno
  bool complete = true;        // neither bytes nor descriptors were cut off
  std::vector<unique_fd> fds;  // ours now; never more than were asked for
};

/// Takes one message of at most bytes.size() and at most `max_fds` (up to 64) descriptors without
/// waiting. What exceeds them is cut off; descriptors that do are closed by the kernel.
[[nodiscard]] inline received receive_message(unique_fd const& from, std::span<std::byte> bytes,
                                              std::size_t max_fds = 0) {
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::byte room[CMSG_SPACE(64 * sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  received got;
  got.fds.reserve(max_fds);
  if (max_fds > 0) {
    message.msg_control = room;
    message.msg_controllen = CMSG_LEN(max_fds * sizeof(int));
  }
  // An end that closed with unread messages shows as one ECONNRESET, before what it had sent.
  bool reset = false;
  do {
    got.bytes = ::recvmsg(from.get(), &message, MSG_CMSG_CLOEXEC);
  } while (got.bytes < 0 &&
           (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset, true))));
  if (got.bytes < 0) {
    got.bytes = -errno;
    return got;
  }
  for (auto* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) { continue; }
    auto const count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
      got.fds.emplace_back(fd);
    }
  }
  got.complete = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  return got;
}

}  // namespace tpx::detail
