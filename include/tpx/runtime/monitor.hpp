// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/log.hpp>
#include <tpx/runtime/exit_status.hpp>
#include <tpx/runtime/member.hpp>
#include <tpx/runtime/unix_socket.hpp>

#include <array>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <pthread.h>
#include <string>
#include <sys/eventfd.h>
#include <vector>

namespace tpx::detail {

/// Turns the death of a rank's process into an abort of the group, in about 0.1 ms.
///
/// One thread, asleep until the kernel says that a process ended. It takes the
/// shared memory's word only for which ranks left in order.
class monitor {
 public:
  /// `pidfds[r]`, `pids[r]`: of starting rank r; empty for this rank itself.
  monitor(control_block& control, std::array<unique_fd, max_ranks> pidfds,
          std::array<int, max_ranks> pids)
      : control_{control},
        pidfds_{std::move(pidfds)},
        pids_{pids},
        stop_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
    if (!stop_) { throw system_error("eventfd", "raise the limit on open files"); }
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, 256 << 10);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);  // the program's handlers stay on its threads
    errno = ::pthread_create(&thread_, &attributes, &monitor::run, this);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_attr_destroy(&attributes);
    if (errno != 0) { throw system_error("starting the monitor's thread"); }
  }

  monitor(monitor&&) = delete;

  ~monitor() {
    if (forks_ != fork_count()) { return; }  // a child has the descriptors but not the thread
    std::uint64_t const one = 1;
    [[maybe_unused]] auto const written = ::write(stop_.get(), &one, sizeof(one));
    ::pthread_join(thread_, nullptr);
  }

  /// The group is now `me`: whoever of it dies, or died before, ends that generation.
  void follow(member const& me) {
    std::lock_guard const lock{mutex_};
    me_ = me;
    for (int r = 0; r < me.size; ++r) { tell(r); }
  }

 private:
  static void* run(void* self) {
    static_cast<monitor*>(self)->watch();
    return nullptr;
  }

  void watch() {
    std::vector<pollfd> polled{{stop_.get(), POLLIN, 0}};
    for (auto const& fd : pidfds_) { polled.push_back({fd.get(), POLLIN, 0}); }
    while (true) {
      if (::poll(polled.data(), polled.size(), -1) < 0) { continue; }
      if (polled[0].revents != 0) { return; }
      for (int seat = 0; seat < max_ranks; ++seat) {
        auto& entry = polled[static_cast<std::size_t>(seat) + 1];
        if (entry.revents == 0) { continue; }
        entry.fd = -1;  // once is enough
        ended(seat);
      }
    }
  }

  void ended(int seat) {
    if (word(control_.rank[seat].state).load(std::memory_order_acquire) ==
        static_cast<std::uint32_t>(rank_state::left)) {
      return;
    }
    int const pid = pids_[static_cast<std::size_t>(seat)];
    std::string how = zombie_exit(pid);
    if (!how.empty()) { how = ": " + how; }
    std::lock_guard const lock{mutex_};
    died_[static_cast<std::size_t>(seat)] = " (pid " + std::to_string(pid) + ") died" + how;
    word(control_.dead[seat].seen).store(1, std::memory_order_release);
    for (int r = 0; me_.control != nullptr && r < me_.size; ++r) {
      if (me_.seat[r] == seat) { tell(r); }
    }
    if (me_.control != nullptr) { me_.wake_all(); }  // a reset() may wait for it
  }

  /// Ends the generation if its rank r is dead.
  void tell(int r) {
    auto const& story = died_[static_cast<std::size_t>(me_.seat[r])];
    if (story.empty()) { return; }
    std::string const message = "rank " + std::to_string(r) + story;
    log(log_level::warn, me_.rank, [&] { return "monitor: " + message; });
    me_.raise(errc::peer_died, r, message);
  }

  control_block& control_;
  std::array<unique_fd, max_ranks> pidfds_;
  std::array<int, max_ranks> pids_;
  unique_fd stop_;
  std::mutex mutex_;
  member me_;                                // under the mutex
  std::array<std::string, max_ranks> died_;  // by seat; under the mutex
  std::uint32_t forks_ = fork_count();
  pthread_t thread_{};
};

}  // namespace tpx::detail
