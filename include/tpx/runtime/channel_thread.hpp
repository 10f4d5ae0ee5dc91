// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/member.hpp>
#include <tpx/runtime/process_state.hpp>
#include <tpx/space.hpp>

#include <nv/target>

#include <algorithm>
#include <string>
#include <thread>
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

/// One rank in one channel: how fast it goes to sleep there, and how it reports.
struct channel_end {
  member me;              // as of the channel's construction, so that a later reset() shows
  std::string operation;  // in errors
  channel_line* lines = nullptr;
  unsigned spins = 2000;

  channel_end(member const& m, std::string name) : me{m}, operation{std::move(name)} {
    // Ranks that share a core must give it up for the awaited one to run at all.
    if (static_cast<unsigned>(me.size) > std::thread::hardware_concurrency()) { spins = 20; }
  }

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
struct channel_thread {
  channel_end const* end;
  char const* lacks;     // what the awaited rank has not done: "has not read message #"
  std::uint64_t number;  // of that message
  bool forever = false;
  mutable std::uint64_t begun_ns = 0;
  mutable unsigned naps = 0;

  ~channel_thread() {
    if (naps != 0) { word(mine().waiting_on).store(0, std::memory_order_relaxed); }
  }

  static constexpr unsigned tile = 1;
  [[nodiscard]] TPX_HD static constexpr unsigned thread_rank() noexcept { return 0; }
  [[nodiscard]] TPX_HD static constexpr unsigned size() noexcept { return 1; }
  [[nodiscard]] TPX_HD static constexpr unsigned channel() noexcept { return 0; }
  [[nodiscard]] TPX_HD static constexpr unsigned channels() noexcept { return 1; }
  TPX_HD static constexpr void sync() noexcept {}
  [[nodiscard]] TPX_HD static constexpr bool all(bool ok) noexcept { return ok; }
  TPX_HD bool pause(unsigned polls, std::uint64_t& flag, std::uint64_t value, int peer) const {
    NV_IF_TARGET(NV_IS_HOST, (between_polls(polls, flag, value, peer);))
    return true;
  }
  TPX_HD void ring(int peer) const { NV_IF_TARGET(NV_IS_HOST, (wake_rank(peer);)) }
  TPX_HD void mismatch(int peer, std::uint64_t value) const {
    NV_IF_TARGET(NV_IS_HOST, (end->distrust(peer, number, std::to_string(value));))
  }

 private:
  [[nodiscard]] channel_line& mine() const { return end->lines[end->me.rank]; }

  void wake_rank(int peer) const { wake(end->me.control->bells[end->me.seat[peer]].asleep); }

  void between_polls(unsigned polls, std::uint64_t& flag, std::uint64_t value, int peer) const {
    if (polls < end->spins) {
      relax();
      return;
    }
    auto const now = now_ns();
    if (begun_ns == 0) { begun_ns = now; }
    // By time and not by count: on a busy machine one yield may last as long as a thousand.
    bool const yields = now - begun_ns < 100'000;
    if (!yields || polls % 64 == 63) { look(now - begun_ns, flag, value, peer); }
    if (yields) {
      ::sched_yield();
    } else {
      sleep(now - begun_ns, flag, value, peer);
    }
  }

  [[nodiscard]] static bool reached(std::uint64_t& flag, std::uint64_t value) {
    return word(flag).load(std::memory_order_acquire) >= value;
  }

  [[nodiscard]] bool over() const {
    auto const& me = end->me;
    return me.aborted() || me.superseded();
  }

  /// Throws if the wait must end.
  void look(std::uint64_t waited, std::uint64_t& flag, std::uint64_t value, int peer) const {
    auto const& me = end->me;
    if (over()) { me.check(); }
    bool const gone = word(me.block(peer).state).load(std::memory_order_acquire) ==
                      static_cast<std::uint32_t>(rank_state::left);
    if (reached(flag, value)) { return; }  // before the verdicts: they must not outrun it
    if (gone) { end->fail(errc::left, peer, number, blame(peer, " left the group and ")); }
    if (!forever && waited >= limit()) { time_out(peer, waited); }
  }

  void sleep(std::uint64_t waited, std::uint64_t& flag, std::uint64_t value, int peer) const {
    auto const& me = end->me;
    auto const nap = std::uint64_t{1'000'000} << std::min(naps++, 6u);  // 1 to 64 ms
    word(mine().waiting_on).store(static_cast<std::uint64_t>(peer) + 1, std::memory_order_relaxed);
    sleep_on(me.control->bells[me.seat[me.rank]].asleep,
             forever || waited >= limit() ? nap : std::min(nap, limit() - waited),
             [&] { return reached(flag, value) || over(); });
  }

  [[nodiscard]] std::uint64_t limit() const {
    return static_cast<std::uint64_t>(end->me.deadline.count());
  }

  /// Names the rank at the end of the chain of ranks that wait for one another here.
  [[noreturn]] void time_out(int peer, std::uint64_t waited_ns) const {
    auto const& me = end->me;
    auto text = blame(peer, " ") + " after " + std::to_string(waited_ns / 1'000'000) + " ms";
    for (int hops = 0; hops < me.size; ++hops) {
      auto const next = word(end->lines[peer].waiting_on).load(std::memory_order_relaxed);
      if (next == 0 || next > static_cast<std::uint64_t>(me.size)) { break; }
      if (static_cast<int>(next) - 1 == me.rank) { break; }
      peer = static_cast<int>(next) - 1;
      text += "; it waits for rank " + std::to_string(peer);
    }
    if (me.processes && process_stopped(word(me.block(peer).pid).load(std::memory_order_relaxed))) {
      text += ", which is stopped (SIGSTOP or a debugger)";
    }
    end->fail(errc::timeout, peer, number, text);
  }

  [[nodiscard]] std::string blame(int peer, char const* link) const {
    return "rank " + std::to_string(peer) + link + lacks + std::to_string(number);
  }
};
static_assert(thread_group<channel_thread>);

}  // namespace detail
}  // namespace tpx
