// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/monitor.hpp>
#include <tpx/runtime/rendezvous.hpp>
#include <tpx/runtime/world.hpp>

#include <atomic>

namespace tpx {

/// Ranks that are processes of this host and user: one control block in a sealed memfd, a socket
/// between each two for further descriptors, and a monitor of who dies. 2n descriptors and a
/// thread.
class process_world final : public world {
 public:
  /// Joins the job as the rank that its launcher made this process; see detail::rendezvous().
  /// All ranks of a job make their groups in the same order, one at a time.
  [[nodiscard]] static std::shared_ptr<process_world> join(launch const& job,
                                                           std::chrono::nanoseconds deadline) {
    static std::atomic<unsigned> groups{0};
    return std::make_shared<process_world>(job, ++groups, deadline);
  }

  process_world(launch const& job, unsigned attempt, std::chrono::nanoseconds deadline)
      : process_world{detail::rendezvous(job, attempt, deadline)} {}

  [[nodiscard]] control_block& control() override {
    return *std::launder(reinterpret_cast<control_block*>(memory_.data()));
  }
  [[nodiscard]] bool processes() const override { return true; }
  void follow(member const& me) override { monitor_.follow(me); }

  void offer(member const& me, std::shared_ptr<void> const&, int fd) override {
    offered const note{.generation = me.generation};
    for (int r = 0; r < me.size; ++r) {
      if (r == me.rank) { continue; }
      int const e =
        detail::send_message(socket(me, r), std::as_bytes(std::span{&note, 1}), std::span{&fd, 1});
      // A rank that is gone gets nothing: the monitor tells of it, or its own `left`.
      if (e != 0 && e != EPIPE && e != ECONNRESET) {
        errno = e;
        throw detail::system_error("handing a descriptor to rank " + std::to_string(r));
      }
    }
  }

  [[nodiscard]] handed take(member const& me, int from) override {
    while (true) {
      offered note;
      auto got =
        detail::receive_message(socket(me, from), std::as_writable_bytes(std::span{&note, 1}), 1);
      bool const whole = got.bytes == static_cast<long>(sizeof(note)) && got.fds.size() == 1;
      if (whole && note.generation < me.generation) { continue; }  // of an operation that failed
      if (!whole || note.generation != me.generation) {
        throw error{got.complete ? errc::io : errc::out_of_memory,
                    "what rank " + std::to_string(from) + " hands to all did not arrive",
                    {.rank = me.rank,
                     .peer = from,
                     .remedy = got.complete ? "" : "raise the limit on open files"}};
      }
      return {nullptr, std::move(got.fds[0])};
    }
  }

 private:
  struct offered {
    std::uint64_t generation = 0;
  };

  explicit process_world(detail::rendezvous_result&& met)
      : memory_{std::move(*met.control)},
        sockets_{std::move(met.sockets)},
        monitor_{control(), std::move(met.pidfds), met.pids} {}

  [[nodiscard]] unique_fd const& socket(member const& me, int r) const {
    return sockets_[static_cast<std::size_t>(me.seat[r])];
  }

  shared_memory memory_;
  std::array<unique_fd, max_ranks> sockets_;  // by starting rank
  detail::monitor monitor_;                   // ends before what it reads
};

}  // namespace tpx
