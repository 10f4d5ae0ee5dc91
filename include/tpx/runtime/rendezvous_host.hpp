// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/process_handle.hpp>
#include <tpx/runtime/rendezvous_door.hpp>

#include <chrono>
#include <new>
#include <vector>

namespace tpx::detail {

/// Rank 0's side of the start-up: waits for all ranks of the job, gives them what they will share,
/// and lets go of every descriptor that it opened for them.
/// Who speaks as a rank and contradicts the job ends the start-up for all, by name.
class rendezvous_host {
 public:
  rendezvous_host(rendezvous_point const& point, int size, std::chrono::nanoseconds deadline)
      : point_{point}, size_{size}, begun_{now_ns()} {
    limit_ = static_cast<std::uint64_t>(deadline.count());
  }

  [[nodiscard]] rendezvous_result run() {
    door_.emplace(point_);
    try {
      gather();
      door_.reset();
      return share();
    } catch (error const& e) {
      rendezvous_message const no = rendezvous_message::refusal(e);
      for (auto const& s : seats_) {
        if (s.fd) { send_message(s.fd, no); }
      }
      if (door_ && e.code() != errc::timeout) { tell_late_comers(no); }
      throw;
    }
  }

 private:
  struct seat {
    unique_fd fd;
    unique_fd pidfd;
    int pid = 0;
  };

  [[nodiscard]] std::string missing(auto&& is) const {
    std::string list;
    int count = 0;
    for (int r = 1; r < size_; ++r) {
      if (is(r)) { list += (count++ == 0 ? "" : ", ") + std::to_string(r); }
    }
    return (count == 1 ? "rank " : "ranks ") + list + " of " + std::to_string(size_);
  }

  void gather() {
    auto const absent = [&](int r) { return !seats_[at(r)].fd; };
    for (int here = 1; here < size_;) {
      auto polled = door_->to_poll();
      auto const door = polled.size();
      for (auto const& s : seats_) { polled.push_back({s.fd.get(), POLLIN, 0}); }
      if (poll_until(polled, begun_ + limit_) == 0) {
        int first = 1;
        while (!absent(first)) { ++first; }
        throw error{errc::timeout,
                    missing(absent) + " did not come within " + milliseconds(limit_) + stranger_,
                    {.rank = 0, .peer = first, .remedy = "see whether it started at all"}};
      }
      for (int r = 1; r < size_; ++r) {
        if (polled[door + at(r)].revents != 0) { ended(r); }
      }
      for (auto& next : door_->answer(polled)) { here += static_cast<int>(take_in(next)); }
    }
  }

  /// Gives the ranks that have not come yet a second to hear why the start failed: otherwise they
  /// would wait for a rank 0 that is gone.
  void tell_late_comers(rendezvous_message const& no) noexcept try {
    auto const until = now_ns() + std::min<std::uint64_t>(limit_, 1'000'000'000);
    int late = size_ - 1;
    for (auto const& s : seats_) { late -= static_cast<int>(static_cast<bool>(s.fd)); }
    while (late > 0) {
      auto polled = door_->to_poll();
      if (poll_until(polled, until) == 0) { return; }
      for (auto const& next : door_->answer(polled)) {
        send_message(next.fd, no);
        --late;
      }
    }
  } catch (error const&) {}  // the reason for the start's failure stands

  /// Gives a rank its seat. False: it is of another job.
  bool take_in(newcomer& next) {
    auto& [fd, pid, m] = next;
    std::string const name = "rank " + std::to_string(m.rank) + " (" + process_word(pid) + ')';
    if (m.version != rendezvous_message::layout_version || m.bytes != sizeof(control_block)) {
      refuse(fd, error{errc::mismatch,
                       process_word(pid) + " was built with another version of tpx",
                       {.rank = 0, .remedy = "build all ranks of a job from the same sources"}});
    }
    if (m.step != rendezvous_step::hello || m.job[0] != point_.job[0] ||
        m.job[1] != point_.job[1]) {
      stranger_ = "; " + process_word(pid) + " came with the key of another job";
      rendezvous_door::drop(pid, "came with the key of another job");
      send_message(
        fd, rendezvous_message::refusal(error{errc::mismatch, "this is rank 0 of another job"}));
      return false;
    }
    if (m.size != size_) {
      refuse(fd, error{errc::mismatch,
                       name + " was started as one of " + std::to_string(m.size) +
                         " ranks, rank 0 as one of " + std::to_string(size_),
                       {.rank = 0, .peer = m.rank}});
    }
    if (m.rank < 1 || m.rank >= size_) {
      refuse(
        fd, error{errc::mismatch,
                  name + " is not a rank that a group of " + std::to_string(size_) + " still lacks",
                  {.rank = 0, .peer = m.rank}});
    }
    auto& its = seats_[at(m.rank)];
    if (its.fd) {
      refuse(fd, error{errc::mismatch,
                       "two processes are rank " + std::to_string(m.rank) + ": " +
                         process_word(its.pid) + " and " + process_word(pid),
                       {.rank = 0, .peer = m.rank, .remedy = "give each job its own TPX_JOB"}});
    }
    its = {std::move(fd), {}, pid};
    its.pidfd = peer_pidfd(its.fd, pid);
    if (!its.pidfd) { ended(m.rank); }
    m.step = rendezvous_step::accepted;
    if (send_message(its.fd, m) != 0) { ended(m.rank); }
    log(log_level::trace, 0, [&] { return "rendezvous: " + name + " came"; });
    return true;
  }

  [[noreturn]] static void refuse(unique_fd const& fd, error const& e) {
    send_message(fd, rendezvous_message::refusal(e));
    throw e;
  }

  [[noreturn]] void ended(int r) const {
    throw error{errc::peer_died,
                "rank " + std::to_string(r) + " (" + process_word(seats_[at(r)].pid) +
                  ") ended while the group started",
                {.rank = 0, .peer = r}};
  }

  [[nodiscard]] rendezvous_result share() {
    rendezvous_result mine;
    mine.control.emplace(shared_memory::create(sizeof(control_block)));
    auto& block = *::new (mine.control->data()) control_block{};
    block.magic = control_block::magic_value;
    block.world = size_;
    seats_[0].pid = ::getpid();
    seats_[0].pidfd = open_pidfd(::getpid());
    rendezvous_message m;
    m.step = rendezvous_step::welcome;
    m.size = size_;
    for (int r = 0; r < size_; ++r) {
      block.rank[r].pid = m.pids[r] = mine.pids[at(r)] = seats_[at(r)].pid;
    }
    auto mesh = make_mesh(size_);
    for (int r = 1; r < size_; ++r) {
      std::vector<int> fds{mine.control->fd()};
      auto const others = [&](auto&& list) {
        for (int q = 0; q < size_; ++q) {
          if (q != r) { fds.push_back(list(at(q))); }
        }
      };
      others([&](std::size_t q) { return mesh[at(r)][q].get(); });
      others([&](std::size_t q) { return seats_[q].pidfd.get(); });
      m.rank = r;
      if (int const e = send_message(seats_[at(r)].fd, m, fds); e != 0) {
        if (e == EPIPE || e == ECONNRESET) { ended(r); }
        errno = e;
        throw system_error("sending to rank " + std::to_string(r));
      }
      mesh[at(r)] = {};
    }
    mine.sockets = std::move(mesh[0]);
    await_ready();
    m = {};
    m.step = rendezvous_step::go;
    for (int r = 1; r < size_; ++r) {
      send_message(seats_[at(r)].fd, m);  // who died meanwhile is the monitor's matter
      mine.pidfds[at(r)] = std::move(seats_[at(r)].pidfd);
    }
    mine.control->close_fd();
    return mine;
  }

  void await_ready() {
    std::array<bool, max_ranks> ready{};
    auto const until = now_ns() + std::max<std::uint64_t>(limit_ / 4, 250'000'000);
    for (int count = 1; count < size_;) {
      std::vector<pollfd> polled;
      for (int r = 1; r < size_; ++r) { polled.push_back({seats_[at(r)].fd.get(), POLLIN, 0}); }
      if (poll_until(polled, until) == 0) {
        int first = 1;
        while (ready[at(first)]) { ++first; }
        throw error{errc::timeout,
                    missing([&](int r) { return !ready[at(r)]; }) + " came but fell silent",
                    {.rank = 0, .peer = first}};
      }
      for (int r = 1; r < size_; ++r) {
        if (polled[at(r) - 1].revents == 0) { continue; }
        rendezvous_message m;
        auto const got =
          receive_message(seats_[at(r)].fd, std::as_writable_bytes(std::span{&m, 1}));
        if (!well_formed(got, m)) { ended(r); }
        if (m.step == rendezvous_step::refused) {
          throw error{m.code > errc::nccl ? errc::io : m.code,
                      "rank " + std::to_string(r) + ": " + m.explanation(),
                      {.rank = 0, .peer = r}};
        }
        count += static_cast<int>(!std::exchange(ready[at(r)], true));
      }
    }
  }

  static std::size_t at(int r) { return static_cast<std::size_t>(r); }

  rendezvous_point const& point_;
  int size_;
  std::uint64_t begun_;
  std::uint64_t limit_ = 0;
  std::optional<rendezvous_door> door_;  // until all have come
  std::array<seat, max_ranks> seats_;
  std::string stranger_;  // what to tell of a rank that knocked at the wrong door
};

}  // namespace tpx::detail
