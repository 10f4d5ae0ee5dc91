// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/rendezvous_host.hpp>

namespace tpx::detail {

/// The side of every rank but 0: finds rank 0, and gets what all share.
class rendezvous_guest {
 public:
  rendezvous_guest(rendezvous_point const& point, int rank, int size,
                   std::chrono::nanoseconds deadline)
      : point_{point}, rank_{rank}, size_{size} {
    limit_ = static_cast<std::uint64_t>(deadline.count());
    until_ = now_ns() + limit_;
  }

  [[nodiscard]] rendezvous_result run() {
    connect();
    // Rank 0 counts its own deadline, and its verdict names who is missing: give it time to come.
    until_ = now_ns() + limit_ + std::max<std::uint64_t>(limit_ / 2, 500'000'000);
    auto mine = unpack(expect(rendezvous_step::welcome));
    say(rendezvous_step::ready);
    static_cast<void>(expect(rendezvous_step::go));
    return mine;
  }

 private:
  void connect() {
    socket_name const name{point_.name};
    for (std::uint64_t nap = 1'000'000;; nap = std::min<std::uint64_t>(nap * 2, 16'000'000)) {
      host_ = make_socket();
      if (::connect(host_.get(), name.get(), name.length) == 0) {
        auto const who = peer_credentials(host_);
        if (who.uid != ::geteuid()) {
          throw error{errc::io,
                      process_word(who.pid) + " of user " + std::to_string(who.uid) +
                        " holds the name by which the ranks of this job meet",
                      {.rank = rank_, .peer = 0, .remedy = "start the job with another TPX_JOB"}};
        }
        host_pid_ = who.pid;
        say(rendezvous_step::hello);
        if (heard(rendezvous_step::accepted)) { return; }
      } else if (errno != ECONNREFUSED && errno != EAGAIN && errno != EINTR) {
        throw system_error("connect");
      }
      auto const now = now_ns();
      if (now >= until_) {
        throw error{
          errc::timeout,
          "rank 0 of " + std::to_string(size_) + " did not come within " + milliseconds(limit_),
          {.rank = rank_,
           .peer = 0,
           .remedy = "see whether it started, with the same job; if the group is complete "
                     "already, this process is one too many"}};
      }
      timespec const t{0, static_cast<long>(std::min(nap, until_ - now))};
      ::nanosleep(&t, nullptr);
    }
  }

  void say(rendezvous_step step) {
    rendezvous_message m;
    m.step = step;
    m.rank = rank_;
    m.size = size_;
    m.job[0] = point_.job[0];
    m.job[1] = point_.job[1];
    static_cast<void>(send_message(host_, m));  // a closed connection shows when we listen
  }

  /// Waits for rank 0's next word. False: it closed the connection.
  bool heard(rendezvous_step step) {
    pollfd polled{host_.get(), POLLIN, 0};
    if (poll_until({&polled, 1}, until_) == 0) {
      throw error{errc::timeout,
                  "rank 0 (" + process_word(host_pid_) + ") is there but does not answer",
                  {.rank = rank_, .peer = 0}};
    }
    got_ = receive_message(host_, std::as_writable_bytes(std::span{&said_, 1}), 2 * max_ranks);
    if (got_.bytes <= 0) { return false; }
    if (!well_formed(got_, said_)) {
      bool const room = got_.complete;
      throw error{room ? errc::mismatch : errc::out_of_memory,
                  room ? process_word(host_pid_) + " does not speak as rank 0 of this job does"
                       : std::string{"the descriptors of the group do not fit"},
                  {.rank = rank_,
                   .peer = room ? 0 : rank_,
                   .remedy = room ? "build all ranks of a job from the same sources"
                                  : "raise the limit on open files"}};
    }
    if (said_.step == rendezvous_step::refused) {
      auto const peer = said_.peer >= -1 && said_.peer < max_ranks ? said_.peer : -1;
      throw error{said_.code > errc::nccl ? errc::io : said_.code,
                  "rank 0 ended the start: " + said_.explanation(),
                  {.rank = rank_, .peer = peer}};
    }
    return said_.step == step;
  }

  rendezvous_message const& expect(rendezvous_step step) {
    if (!heard(step)) {
      throw error{errc::peer_died,
                  "rank 0 (" + process_word(host_pid_) + ") ended while the group started",
                  {.rank = rank_, .peer = 0}};
    }
    return said_;
  }

  /// What this rank cannot take ends the start-up for all.
  [[nodiscard]] rendezvous_result unpack(rendezvous_message const& m) try {
    auto const others = static_cast<std::size_t>(size_ - 1);
    if (got_.fds.size() != 1 + 2 * others || m.size != size_ || m.rank != rank_) {
      throw error{errc::mismatch, "rank 0 sent " + std::to_string(got_.fds.size()) +
                                    " descriptors where " + std::to_string(1 + 2 * others) +
                                    " are needed"};
    }
    rendezvous_result mine;
    mine.control.emplace(shared_memory::open(std::move(got_.fds[0]), sizeof(control_block)));
    mine.control->close_fd();
    std::size_t next = 1;
    for (std::size_t q = 0; q <= others; ++q) {
      mine.pids[q] = m.pids[q];
      if (q == static_cast<std::size_t>(rank_)) { continue; }
      mine.pidfds[q] = std::move(got_.fds[next + others]);
      mine.sockets[q] = std::move(got_.fds[next++]);
    }
    got_.fds.clear();
    return mine;
  } catch (error const& e) {
    static_cast<void>(send_message(host_, rendezvous_message::refusal(e)));
    throw;
  }

  rendezvous_point const& point_;
  int rank_;
  int size_;
  std::uint64_t limit_ = 0;
  std::uint64_t until_ = 0;
  unique_fd host_;
  int host_pid_ = 0;
  rendezvous_message said_;
  received got_;
};

/// Meets the other ranks of the job and returns once all hold the same control block.
///
/// `attempt` tells apart the groups that the processes of one job make one after the other.
/// Errors on every rank that came: timeout, naming who did not; mismatch (two of one rank, other
/// sizes, other builds); peer_died; io (another user holds the name); out_of_memory.
/// Cost: milliseconds once all are there. Afterwards nothing of it is left but the result.
[[nodiscard]] inline rendezvous_result rendezvous(launch const& job, unsigned attempt,
                                                  std::chrono::nanoseconds deadline) {
  rendezvous_point const point{job.job, attempt};
  log(log_level::trace, job.rank, [&] {
    return "rendezvous: one of " + std::to_string(job.size) + " by " + std::string{job.launcher} +
           ", at " + point.name;
  });
  auto result = job.rank == 0 ? rendezvous_host{point, job.size, deadline}.run()
                              : rendezvous_guest{point, job.rank, job.size, deadline}.run();
  log(log_level::trace, job.rank, [] { return std::string{"rendezvous: all ranks are ready"}; });
  return result;
}

}  // namespace tpx::detail
