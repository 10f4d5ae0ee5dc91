// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/log.hpp>
#include <tpx/runtime/control_block.hpp>
#include <tpx/runtime/fork_count.hpp>
#include <tpx/runtime/park.hpp>

#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace tpx {

/// One rank's view of its group's control block: who is in, whether it still runs, and how to end
/// it for everybody. Plain values; threads of one rank may use it at the same time.
struct member {
  control_block* control = nullptr;
  int rank = 0;
  int size = 1;
  int seat[max_ranks] = {};      // rank -> starting rank, which indexes the control block
  std::uint64_t generation = 1;  // grows with every reset()
  bool processes = false;        // ranks are processes, not threads of this one
  std::chrono::nanoseconds deadline{std::chrono::seconds{30}};
  std::uint32_t forks = detail::fork_count();  // another count later: this is a forked child

  [[nodiscard]] control_block::rank_block& block(int r) const { return control->rank[seat[r]]; }

  /// Whether a reset() began a newer generation.
  [[nodiscard]] bool superseded() const {
    return word(control->verdict.decided).load(std::memory_order_acquire) >> max_ranks > generation;
  }

  /// Whether any rank ended this generation of the group. Sticky.
  [[nodiscard]] bool aborted() const {
    for (int r = 0; r < size; ++r) {
      if (word(block(r).aborted).load(std::memory_order_acquire) >= generation) { return true; }
    }
    return false;
  }

  /// Ends the group for every rank, once; the first report of a rank stands.
  void raise(errc code, int peer, std::string_view message, std::string_view operation = {},
             std::uint64_t epoch = 0) const {
    auto& mine = block(rank);
    auto claimed = word(mine.claimed).load(std::memory_order_relaxed);
    do {
      if (claimed >= generation) {  // another thread of this rank is at it
        while (word(mine.aborted).load(std::memory_order_acquire) < generation) { ::sched_yield(); }
        return;
      }
    } while (!word(mine.claimed).compare_exchange_weak(claimed, generation));
    mine.what = failure{.code = code, .reporter = rank, .peer = peer, .epoch = epoch};
    copy(mine.what.operation, operation);
    copy(mine.what.message, message);
    auto& first = control->first.report;
    auto standing = word(first).load(std::memory_order_relaxed);
    auto const own = generation << 8 | static_cast<std::uint64_t>(seat[rank]);
    while (standing >> 8 < generation &&
           !word(first).compare_exchange_weak(standing, own, std::memory_order_acq_rel)) {}
    word(mine.aborted).store(generation, std::memory_order_release);
    wake_all();
    log(log_level::error, rank, [&] {
      return "ends the group: " + std::string{name(code)} + ", rank " + std::to_string(peer) +
             ", " + std::string{operation} + ": " + std::string{message};
    });
  }

  void wake_all() const {
    for (int r = 0; r < size; ++r) { detail::wake(control->bells[seat[r]].asleep); }
  }

  /// The report that ended the group, the same for every rank: the first. Empty while it runs.
  [[nodiscard]] std::optional<failure> reason() const {
    if (!aborted()) { return {}; }
    auto const from = word(control->first.report).load(std::memory_order_acquire) & 0xffu;
    std::optional<failure> first = control->rank[from % max_ranks].what;
    // Another process wrote it: believe no terminator.
    first->operation[sizeof(first->operation) - 1] = 0;
    first->message[sizeof(first->message) - 1] = 0;
    if (first->code > errc::nccl) { first->code = errc::io; }
    return first;
  }

  /// Throws the error that ended the group, if one did, or `stale` after a reset().
  void check(cuda::std::source_location where = cuda::std::source_location::current()) const {
    if (forks != detail::fork_count()) {
      throw error{errc::unsupported,
                  "this process is a fork of a rank and no rank itself",
                  {.rank = rank, .remedy = "start ranks as programs of their own, or as threads"},
                  where};
    }
    if (superseded()) {
      throw error{errc::stale,
                  "this was made before the group's last reset()",
                  {.rank = rank, .remedy = "construct communicators and channels anew after it"},
                  where};
    }
    auto const f = reason();
    if (!f) { return; }
    std::string message{f->message};
    if (f->reporter != rank && f->reporter != f->peer) {
      message = "rank " + std::to_string(f->reporter) + " reports: " + message;
    }
    throw error{f->code,
                message,
                {.rank = rank,
                 .peer = f->peer,
                 .operation = f->operation,
                 .epoch = f->epoch,
                 .remedy = "the group is aborted: call reset() on every rank that lives on"},
                where};
  }

 private:
  template <std::size_t N>
  static void copy(char (&to)[N], std::string_view from) {
    if (!from.empty()) { std::memcpy(to, from.data(), from.size() < N ? from.size() : N - 1); }
  }
};

}  // namespace tpx
