// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/patience.hpp>
#include <tpx/space.hpp>

#include <nv/target>

#include <string>
#include <utility>

namespace tpx {

/// Lets a wait of a channel last as long as nothing is sent: an engine without work may sleep for
/// days. An abort, and a writer that leaves or dies, still end it at once.
struct idle_forever_t {};
inline constexpr idle_forever_t idle_forever{};

namespace detail {

/// What a rank shows the others of its channel; it alone writes its line. Zero is the start.
struct alignas(cache_line) channel_line {
  std::uint64_t read;        // messages it took
  std::uint64_t waiting_on;  // rank + 1 once it has slept for one, 0 otherwise
};

/// One rank in one channel, and how it reports.
struct channel_end {
  member me;              // as of the channel's construction, so that a later reset() shows
  std::string operation;  // in errors
  channel_line* lines = nullptr;

  /// Ends the group with a report about message `number`, and throws it.
  [[noreturn]] void fail(errc code, int peer, std::uint64_t number,
                         std::string const& message) const {
    me.raise(code, peer, message, operation, number);
    me.check();
    throw error{
      code, message, {.rank = me.rank, .peer = peer, .operation = operation, .epoch = number}};
  }

  /// Ends the group because memory that rank `peer` alone writes holds what tpx never writes there.
  [[noreturn]] void distrust(int peer, std::uint64_t number, std::string const& what) const {
    fail(errc::mismatch, peer, number, "rank " + std::to_string(peer) + " wrote " + what);
  }
};

/// The calling CPU thread as one wait in a channel. A failed wait throws; none returns false.
class channel_thread {
 public:
  /// `lacks`: what the awaited rank has not done, "has not read message #", of message `number`.
  channel_thread(channel_end const& end, char const* lacks, std::uint64_t number,
                 bool forever = false)
      : end_{end},
        patience_{end.me, end.lines[end.me.rank].waiting_on, 2000},
        lacks_{lacks},
        number_{number},
        forever_{forever} {}
  ~channel_thread() { patience_.restart(); }
  channel_thread(channel_thread&&) = delete;

  static constexpr unsigned tile = 1;
  [[nodiscard]] TPX_HD static constexpr unsigned thread_rank() noexcept { return 0; }
  [[nodiscard]] TPX_HD static constexpr unsigned size() noexcept { return 1; }
  [[nodiscard]] TPX_HD static constexpr unsigned channel() noexcept { return 0; }
  [[nodiscard]] TPX_HD static constexpr unsigned channels() noexcept { return 1; }
  TPX_HD static constexpr void sync() noexcept {}
  [[nodiscard]] TPX_HD static constexpr bool all(bool ok) noexcept { return ok; }
  TPX_HD bool pause(unsigned polls, std::uint64_t& flag, goal wanted, int peer) const {
    NV_IF_TARGET(NV_IS_HOST, (between_polls(polls, flag, wanted, peer);))
    return true;
  }
  TPX_HD void ring(int peer) const { NV_IF_TARGET(NV_IS_HOST, (wake_rank(peer);)) }
  TPX_HD void mismatch(int peer, std::uint64_t value) const {
    NV_IF_TARGET(NV_IS_HOST, (end_.distrust(peer, number_, std::to_string(value));))
  }

  /// The wait goes on for a message further on.
  void now_for(std::uint64_t number) { number_ = number; }

 private:
  using outcome = patience::outcome;

  void wake_rank(int peer) const { wake(end_.me.control->bells[end_.me.seat[peer]].asleep); }

  void between_polls(unsigned polls, std::uint64_t& flag, goal wanted, int peer) const {
    if (patience_.brief(polls)) { return; }
    switch (patience_.look(flag, wanted, peer, forever_)) {
      case outcome::reached:
        return;
      case outcome::ended:
        end_.me.check();
        return;
      case outcome::left:
        end_.fail(errc::left, peer, number_, blame(peer, " left the group and "));
      case outcome::late:
        time_out(peer);
      case outcome::none:
        patience_.sleep(flag, wanted, peer, forever_);
    }
  }

  [[noreturn]] void time_out(int peer) const {
    auto text =
      blame(peer, " ") + " after " + std::to_string(patience_.waited_ns() / 1'000'000) + " ms";
    bool stopped = false;
    peer = patience_.culprit(peer, stopped, [&](int r) {
      return word(end_.lines[r].waiting_on).load(std::memory_order_relaxed);
    });
    text += "; it is up to rank " + std::to_string(peer);
    if (stopped) { text += ", which is stopped (SIGSTOP or a debugger)"; }
    end_.fail(errc::timeout, peer, number_, text);
  }

  [[nodiscard]] std::string blame(int peer, char const* link) const {
    return "rank " + std::to_string(peer) + link + lacks_ + std::to_string(number_);
  }

  channel_end const& end_;
  mutable patience patience_;
  char const* lacks_;
  std::uint64_t number_;
  bool forever_;
};
static_assert(thread_group<channel_thread>);

}  // namespace detail
}  // namespace tpx
