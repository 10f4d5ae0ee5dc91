// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/rendezvous_message.hpp>

#include <span>
#include <vector>

namespace tpx::detail {

/// Somebody of this user who speaks as a rank does.
struct newcomer {
  unique_fd fd;
  int pid = 0;
  rendezvous_message said;
};

/// Where rank 0 listens. Who is of another user, speaks otherwise or says nothing gets no further
/// than here, and holds no descriptor of ours for long.
class rendezvous_door {
 public:
  explicit rendezvous_door(rendezvous_point const& point) : listener_{make_socket()} {
    socket_name const name{point.name};
    if (::bind(listener_.get(), name.get(), name.length) != 0) {
      if (errno == EADDRINUSE) { name_is_taken(name); }
      throw system_error("bind");
    }
    if (::listen(listener_.get(), 64) != 0) { throw system_error("listen"); }
  }

  /// What answer() wants polled.
  [[nodiscard]] std::vector<pollfd> to_poll() const {
    std::vector<pollfd> polled{{listener_.get(), POLLIN, 0}};
    for (auto const& fd : waiting_) { polled.push_back({fd.get(), POLLIN, 0}); }
    return polled;
  }

  /// Hears who has something to say; `polled` begins with to_poll()'s.
  [[nodiscard]] std::vector<newcomer> answer(std::span<pollfd const> polled) {
    std::vector<newcomer> heard;
    std::vector<unique_fd> silent;
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      if (polled[1 + i].revents == 0) {
        silent.push_back(std::move(waiting_[i]));
        continue;
      }
      newcomer next{std::move(waiting_[i]), 0, {}};
      auto const got = receive_message(next.fd, std::as_writable_bytes(std::span{&next.said, 1}));
      next.pid = peer_credentials(next.fd).pid;
      if (well_formed(got, next.said)) {
        heard.push_back(std::move(next));
      } else {
        drop(next.pid, "does not speak as a rank does");
      }
    }
    waiting_ = std::move(silent);
    if (polled[0].revents != 0) { admit(); }
    return heard;
  }

  static void drop(int pid, std::string const& why) {
    log(log_level::warn, 0, [&] { return "rendezvous: " + process_word(pid) + ' ' + why; });
  }

 private:
  static constexpr std::size_t most_waiting = 64;

  void admit() {
    unique_fd fd{::accept4(listener_.get(), nullptr, nullptr, socket_flags)};
    if (!fd) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) { throw system_error("accept"); }
      return;
    }
    if (auto const who = peer_credentials(fd); who.uid != ::geteuid()) {
      drop(who.pid, "is of user " + std::to_string(who.uid));
      return;
    }
    if (waiting_.size() == most_waiting) { waiting_.erase(waiting_.begin()); }
    waiting_.push_back(std::move(fd));
  }

  [[noreturn]] static void name_is_taken(socket_name const& name) {
    auto const probe = make_socket();
    ucred who{-1, ::geteuid(), 0};
    if (::connect(probe.get(), name.get(), name.length) == 0) { who = peer_credentials(probe); }
    if (who.uid != ::geteuid()) {
      throw error{errc::io,
                  process_word(who.pid) + " of user " + std::to_string(who.uid) +
                    " holds the name by which the ranks of this job meet",
                  {.rank = 0, .remedy = "start the job with another TPX_JOB"}};
    }
    throw error{errc::invalid_argument,
                "this job has a rank 0 already: " + process_word(who.pid),
                {.rank = 0, .peer = 0, .remedy = "give each job its own TPX_JOB"}};
  }

  unique_fd listener_;
  std::vector<unique_fd> waiting_;  // connected, have said nothing yet
};

}  // namespace tpx::detail
