// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/flag.hpp>
#include <tpx/runtime/host_thread.hpp>
#include <tpx/runtime/world.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace tpx {

struct group_options {
  /// The longest that any wait for another rank lasts before it is an error on every rank.
  std::chrono::nanoseconds deadline = std::chrono::seconds{30};
};

/// The ranks of one host that run a model together, as one of them sees it.
///
/// `run_ranks` makes one for each rank. One thread at a time may use it. Once any rank fails, dies,
/// leaves too early or misses a deadline, every call of every rank throws the same error until all
/// ranks that live on call `reset()`.
class group {
 public:
  group(std::shared_ptr<world> w, int rank, int size, group_options const& options = {})
      : world_{std::move(w)}, me_{start(*world_, rank, size, options)}, waiter_{me_, calls()} {
    word(me_.block(rank).state).store(static_cast<std::uint32_t>(rank_state::live));
    world_->follow(me_);
    log(log_level::info, rank, [&] {
      return "group: one of " + std::to_string(size) + (processes() ? " processes" : " threads");
    });
  }

  group(group&&) = delete;
  ~group() { leave(); }

  [[nodiscard]] int rank() const noexcept { return me_.rank; }
  [[nodiscard]] int size() const noexcept { return me_.size; }
  [[nodiscard]] bool processes() const noexcept { return me_.processes; }
  [[nodiscard]] member const& me() const noexcept { return me_; }

  /// Keeps the memory that `me()` points to for longer than the group.
  [[nodiscard]] std::shared_ptr<world> home() const noexcept { return world_; }

  /// Throws what ended the group, if anything did.
  void check() const { me_.check(); }

  /// Ends the group: every rank's next or current call throws `message`, naming this rank.
  void abort(errc code, std::string_view message) {
    if (!forked()) { me_.raise(code, me_.rank, message); }
  }

  /// Says that this rank takes part in nothing more. Whoever still waits for it gets `left`.
  void leave() noexcept {
    if (forked()) { return; }  // the parent is the rank, and still in
    word(me_.block(me_.rank).state).store(static_cast<std::uint32_t>(rank_state::left));
    me_.wake_all();
  }

  /// Every rank's word, by rank. All ranks call it with the same `call`. Waits for all ranks.
  std::array<std::uint64_t, max_ranks> exchange(std::uint64_t value,
                                                call_signature call = {collective::agree}) {
    waiter_.begin(call);
    host_thread const self{&waiter_};
    auto const epoch = waiter_.epoch();
    auto const parity = epoch % 2;
    auto& mine = post(me_.rank);
    // The place was last read in call epoch-2, which every rank has left: each waited for all
    // ranks' posts of epoch-1.
    word(mine.signature[parity]).store(call.pack(), std::memory_order_relaxed);
    word(mine.value[parity]).store(value, std::memory_order_release);
    word(mine.posted).store(epoch, std::memory_order_release);
    for (int r = 0; r < size(); ++r) { self.ring(r); }
    std::array<std::uint64_t, max_ranks> all{};
    for (int r = 0; r < size(); ++r) {
      auto& theirs = post(r);
      if (!wait(self, theirs.posted, epoch, r)) { break; }
      auto const said = word(theirs.signature[parity]).load(std::memory_order_relaxed);
      if (said != call.pack()) {
        self.mismatch(r, said);
        break;
      }
      all[static_cast<std::size_t>(r)] = word(theirs.value[parity]).load(std::memory_order_acquire);
    }
    // The others may have begun anew without this rank, if it was stopped: their later posts
    // satisfy its wait. Whoever reads such a value also sees the reset that came before it.
    if (me_.superseded()) { me_.check(); }
    waiter_.end();
    return all;
  }

  /// Returns `value` if every rank passed the same; else throws `mismatch` on every rank, naming
  /// the rank that fewest agree with. For decisions that ranks took apart: batch, graph, drafts.
  std::uint64_t agree(std::uint64_t value) {
    auto const all = exchange(value);
    int odd = -1;
    int fewest = size();
    for (int r = 0; r < size(); ++r) {
      int same = 0;
      for (int q = 0; q < size(); ++q) { same += static_cast<int>(all[at(q)] == all[at(r)]); }
      if (same <= fewest && same < size()) {
        fewest = same;
        odd = r;
      }
    }
    if (odd >= 0) {
      int const other = odd == 0 ? size() - 1 : 0;
      me_.raise(errc::mismatch, odd,
                "rank " + std::to_string(odd) + " wants " + std::to_string(all[at(odd)]) +
                  " where rank " + std::to_string(other) + " wants " +
                  std::to_string(all[at(other)]),
                "agree", host_waiter::ordinal(waiter_.epoch()));
      check();
    }
    return value;
  }

  /// Rank `root`'s value, on every rank: one rank decides, all follow.
  std::uint64_t decide(std::uint64_t value, int root = 0) {
    expects(root >= 0 && root < size(), [&] {
      return "decide: root " + std::to_string(root) + " is not a rank of this group of " +
             std::to_string(size());
    });
    return exchange(value, {collective::agree, dtype::uint64, 0, root, 1})[at(root)];
  }

  /// `bytes` of zeroed memory, made by rank `root` and mapped by every rank. Milliseconds.
  /// `purpose`: the same number on every rank, for what the memory is for, or a mismatch.
  /// Errors: out_of_memory on every rank, naming root.
  std::shared_ptr<shared_memory> share(std::size_t bytes, int root = 0, std::uint16_t purpose = 0) {
    expects(bytes > 0 && bytes <= call_signature::max_count,
            "cannot share " + std::to_string(bytes) + " bytes", "1 byte to 64 GiB");
    log(log_level::trace, rank(), [&] {
      return "share: " + std::to_string(bytes) + " bytes of rank " + std::to_string(root);
    });
    return hand_round<shared_memory>(
      {collective::share, dtype::uint8, purpose, root, bytes}, std::uint32_t{1} << root,
      [&] { return std::make_shared<shared_memory>(shared_memory::create(bytes)); },
      [&](unique_fd fd, int) {
        return std::make_shared<shared_memory>(shared_memory::open(std::move(fd), bytes));
      })[at(root)];
  }

  /// Of each rank in `makers` (bit r: rank r) an object that it makes, on every rank, by rank.
  ///
  /// `make()` returns a shared_ptr<T>, which ranks that are threads share. Where they are
  /// processes, they have what `open(unique_fd, maker)` returns for a descriptor of it, `T::fd()`;
  /// that is closed (`T::close_fd()`) once all have theirs. `open` may return null, and runs on
  /// ranks other than the maker only. All ranks pass the same `call`, whose kind is share, and
  /// `makers`. Errors: what `make` or `open` throws, on every rank, naming the rank where it did.
  template <class T, class Make, class Open>
  std::array<std::shared_ptr<T>, max_ranks> hand_round(call_signature call, std::uint32_t makers,
                                                       Make&& make, Open&& open) {
    auto const makes = [&](int r) { return (makers >> r & 1u) != 0; };
    check();
    std::array<std::shared_ptr<T>, max_ranks> all;
    guarded(name(call.kind), [&] {
      if (!makes(rank())) { return; }
      auto& mine = all[at(rank())] = make();
      world_->offer(me_, mine, mine->fd());
    });
    exchange(0, call);
    guarded(name(call.kind), [&] {
      for (int r = 0; r < size(); ++r) {
        if (r == rank() || !makes(r)) { continue; }
        auto got = world_->take(me_, r);
        if (processes()) {
          all[at(r)] = open(std::move(got.fd), r);
        } else {
          all[at(r)] = std::static_pointer_cast<T>(std::move(got.object));
        }
      }
    });
    exchange(1, call);  // makers may let go of their descriptors once all have theirs
    for (int r = 0; r < size(); ++r) {
      if (all[at(r)] && (r == rank() || processes())) { all[at(r)]->close_fd(); }
    }
    return all;
  }

  /// Runs f, this rank's own part of an operation of all ranks. What it throws ends the group, so
  /// that no rank waits for this one, and goes on.
  template <class F>
  void guarded(std::string_view operation, F&& f) {
    try {
      f();
    } catch (error const& e) {
      me_.raise(e.code(), e.peer() >= 0 ? e.peer() : rank(), e.what(), operation);
      throw;
    }
  }

  /// Begins anew with the ranks that live on, after an error or without one: each of them calls it.
  /// Ranks that died or left are out; one that does not come within the deadline is out too, and
  /// gets `stale` when it does. Ranks are numbered anew in their order; communicators, channels and
  /// what was in flight are void.
  void reset();

 private:
  static member start(world& w, int rank, int size, group_options const& options) {
    expects(size >= 1 && size <= max_ranks && rank >= 0 && rank < size,
            "rank " + std::to_string(rank) + " of " + std::to_string(size) +
              " is not possible: a group has 1 to 16 ranks of one host",
            "use the Nccl transport for more ranks or several hosts");
    expects(options.deadline.count() > 0, "the deadline must be positive");
    member me;
    me.control = &w.control();
    me.rank = rank;
    me.size = size;
    for (int r = 0; r < size; ++r) { me.seat[r] = r; }
    me.deadline = options.deadline;
    me.processes = w.processes();
    return me;
  }

  static std::size_t at(int r) { return static_cast<std::size_t>(r); }
  [[nodiscard]] bool forked() const noexcept { return me_.forks != detail::fork_count(); }
  control_block::post& post(int r) { return me_.control->posts[me_.seat[r]]; }
  ledger& calls() { return me_.control->calls; }

  std::shared_ptr<world> world_;
  member me_;
  host_waiter waiter_;
};

inline void group::reset() {
  if (forked()) { check(); }
  auto& control = *me_.control;
  auto const next = me_.generation + 1;
  int const seat = me_.seat[me_.rank];
  auto const begun = detail::now_ns();
  auto const decided = [&] { return me_.superseded(); };
  word(control.rank[seat].came_to_reset).store(next, std::memory_order_release);
  me_.wake_all();
  while (!decided()) {
    bool const late = detail::now_ns() - begun > static_cast<std::uint64_t>(me_.deadline.count());
    std::uint64_t members = 0;
    bool complete = true;
    for (int r = 0; r < me_.size; ++r) {
      auto const s = me_.seat[r];
      bool const gone = word(control.dead[s].seen).load(std::memory_order_acquire) != 0 ||
                        word(control.rank[s].state).load(std::memory_order_acquire) ==
                          static_cast<std::uint32_t>(rank_state::left);
      if (gone) { continue; }
      bool const came = word(control.rank[s].came_to_reset).load(std::memory_order_acquire) >= next;
      members |= std::uint64_t{came} << s;
      complete = complete && came;
    }
    if (complete || late) {
      auto newest = word(control.verdict.decided).load(std::memory_order_acquire);
      if (newest >> max_ranks < next &&
          word(control.verdict.decided)
            .compare_exchange_strong(newest, next << max_ranks | members)) {
        me_.wake_all();
      }
    }
    detail::sleep_on(control.bells[seat].asleep, 1'000'000, decided);
  }
  auto const members = word(control.verdict.decided).load(std::memory_order_acquire);
  if (members >> max_ranks != next || (members >> seat & 1u) == 0) {
    throw error{errc::stale,
                "the others began anew without this rank, which came to reset() late",
                {.rank = me_.rank, .remedy = "end this rank and start the job again"}};
  }
  member now = me_;
  now.size = 0;
  for (int r = 0; r < me_.size; ++r) {
    if ((members >> me_.seat[r] & 1u) != 0) { now.seat[now.size++] = me_.seat[r]; }
    if (me_.seat[r] == seat) { now.rank = now.size - 1; }
  }
  now.generation = next;
  me_ = now;
  waiter_ = host_waiter{me_, calls()};
  world_->follow(me_);
  log(log_level::info, me_.rank, [&] {
    return "reset: generation " + std::to_string(next) + ", one of " + std::to_string(me_.size);
  });
}

}  // namespace tpx
