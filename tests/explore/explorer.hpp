// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/wires.hpp>
#include <tpx/space.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

/// Runs protocols of tpx on simulated ranks, one after the other on one OS thread, in an order that
/// a seed decides: whatever two ranks can do to each other happens again with the same seed.
namespace explore {

class scheduler;

/// A thread group whose every call is a point where another rank may go on. The shipped loops over
/// tiles and over peers ask for `size()` between two turns, so they may be left there too. Atomic
/// accesses are such points as well if the run's `memory` says so. Its tile is a GPU's, so that
/// packets are moved and folded.
class explorer_thread {
 public:
  static constexpr unsigned tile = 1;

  [[nodiscard]] unsigned thread_rank() const { return thread_; }
  [[nodiscard]] unsigned size() const;
  [[nodiscard]] unsigned channel() const { return channel_; }
  [[nodiscard]] unsigned channels() const { return channels_; }
  [[nodiscard]] bool all(bool ok) const;
  [[nodiscard]] bool pause(unsigned polls, std::uint64_t& flag, tpx::goal wanted, int peer) const;
  void sync() const;
  void ring(int peer) const;
  void mismatch(int peer, std::uint64_t signature) const;

  /// Carries out this thread's late stores, as the end of a kernel does.
  void settle() const;

  [[nodiscard]] int rank() const { return rank_; }
  /// Whether the run has failed already: what follows is not worth doing.
  [[nodiscard]] bool stopped() const;

 private:
  friend class scheduler;
  scheduler* owner_ = nullptr;
  int fiber_ = 0;
  int rank_ = 0;
  unsigned thread_ = 0;
  unsigned threads_ = 1;
  unsigned channel_ = 0;
  unsigned channels_ = 1;
};
static_assert(tpx::thread_group<explorer_thread>);

/// Small, seeded, the same everywhere (splitmix64: Steele, Lea and Flood, OOPSLA 2014).
class generator {
 public:
  explicit generator(std::uint64_t seed) : state_{seed} {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t n) {
    return static_cast<std::size_t>(((next() >> 32) * static_cast<std::uint64_t>(n)) >> 32);
  }

 private:
  std::uint64_t state_;
};

enum class strategy {
  uniform,  ///< each rank that can go on is as likely as the others
  /// The rank of highest priority goes on; at a few random steps the one that runs falls below all
  /// others (Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding
  /// bugs", ASPLOS 2010).
  pct,
};

/// What a rank sees of another's atomic stores, and when. Plain stores are always seen at once.
/// ThreadSanitizer is shown stores that are carried out at once, since it judges their order
/// itself.
enum class memory {
  coarse,  ///< all at once; atomic accesses are no steps
  /// C++: atomic accesses are steps, and a relaxed store may be seen late, up to the thread's next
  /// store with release.
  host,
  /// A GPU at its weakest: a cell is accessed as one, any store to it or to the byte aside may be
  /// seen late, whatever the thread stores after it, and is seen for sure once the thread has
  /// loaded from that address, or has ended. Loads are not reordered.
  device,
};

/// What runs: `threads` threads for each of `channels` channels of each rank, over `windows`.
struct setting {
  tpx::window_layout layout;
  std::byte* windows[tpx::max_ranks];
  unsigned threads = 1;
  explore::memory seen = explore::memory::coarse;
};

enum class verdict {
  good,
  deadlock,  ///< ranks wait for flags that nobody is left to raise
  mismatch,  ///< a rank was told that another called something else
  endless,   ///< no end after a million steps
  /// Values differ from the oracle's (set by whoever compares), or a cell was filled that was full.
  wrong,
};

struct outcome {
  verdict kind = verdict::good;
  std::string what;
  std::uint64_t steps = 0;
  std::uint64_t order = 0;  ///< a hash of who ran when
  bool failed = false;      ///< whether another kind was expected (set by whoever knows)
};

/// Keeps the simulated ranks, each on a stack of its own, from run to run.
///
/// Freed slots, and all slots before the first run, are filled with `poison`, so a value that is
/// read too late, too early or twice shows. Under ThreadSanitizer every rank is a thread of its own
/// to it, and only the protocols' flags order them: a race is reported in whatever schedule.
class scheduler {
 public:
  static constexpr unsigned char poison = 0xee;
  static constexpr int most = 64;

  scheduler();
  scheduler(scheduler&&) = delete;
  ~scheduler();

  /// Clears the windows, then runs body(explorer_thread const&) on every thread of every rank.
  template <class Body>
  outcome run(setting const& where, strategy how, std::uint64_t seed, Body& body) {
    return run(
      where, how, seed, [](void* f, explorer_thread const& me) { (*static_cast<Body*>(f))(me); },
      &body);
  }

 private:
  friend class explorer_thread;
  using entry = void (*)(void*, explorer_thread const&);
  struct fiber;
  struct state;

  friend void before_load(void const*, std::size_t);
  friend bool take_store(void*, std::size_t, std::uint64_t, bool);
  struct late_store;

  outcome run(setting const& where, strategy how, std::uint64_t seed, entry body, void* argument);
  void start_fiber(int index);
  void step();
  void leave();
  void go_to(int next);
  [[nodiscard]] int choose();
  [[nodiscard]] bool can_run(fiber const& f) const;
  [[nodiscard]] bool meet(explorer_thread const& me, bool ok);
  void poison_slot(int owner, int channel, int peer, std::uint64_t message);
  void freed(explorer_thread const& me, int peer);
  void clear_windows();
  [[nodiscard]] std::uint64_t draw_delay();
  void carry_out(late_store const& store);
  void settle(std::size_t index);
  void settle_due();
  void settle_of(int whose, void const* at);
  void fail(verdict kind, std::string what);
  [[nodiscard]] std::string who_waits() const;
  [[nodiscard]] std::string wish_of(fiber const& f) const;
  static void fiber_main();

  state* s_;
};

}  // namespace explore
