// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace tpx {

/// What a waiter wants of a word that another rank writes: `value` steps beyond `base` or more. A
/// count that grows has base 0; a word that is to become another one than w has base w, value 1.
struct goal {
  std::uint64_t value;
  std::uint64_t base = 0;

  TPX_HD constexpr goal(std::uint64_t least, std::uint64_t from = 0) : value{least}, base{from} {}
  [[nodiscard]] TPX_HD constexpr bool reached(std::uint64_t word) const {
    return word - base >= value;
  }
};

/// The threads that together act as one rank: one CPU thread, or the CUDA blocks of one kernel.
///
/// 1. `thread_rank()`, `size()`, `sync()`: the threads of one channel, as in cooperative groups.
/// 2. `channel()`, `channels()`: independent parts of the rank (CUDA: blocks), each with its own
///    flags and slots.
/// 3. `all(ok)`: a `sync()` that tells whether every thread of the channel passed true.
/// 4. `tile`: how many neighbouring elements one thread handles at a time.
/// 5. `pause(polls, word, goal, peer)`: called between two polls of a word that rank `peer` is to
///    bring to a goal; false says stop waiting: the group was aborted or the deadline is over.
/// 6. `ring(peer)`: called after a flag for rank `peer` was raised, in case it sleeps.
/// 7. `mismatch(peer, signature)`: rank `peer` called something else: its call's signature.
template <class G>
concept thread_group = requires(G const g, bool ok, unsigned polls, std::uint64_t& flag,
                                std::uint64_t value, int peer) {
  { g.thread_rank() } -> std::convertible_to<unsigned>;
  { g.size() } -> std::convertible_to<unsigned>;
  { g.channel() } -> std::convertible_to<unsigned>;
  { g.channels() } -> std::convertible_to<unsigned>;
  { g.all(ok) } -> std::same_as<bool>;
  { G::tile } -> std::convertible_to<unsigned>;
  { g.pause(polls, flag, goal{value}, peer) } -> std::same_as<bool>;
  g.sync();
  g.ring(peer);
  g.mismatch(peer, value);
};

/// One whose threads can fold values, in a team of so many channels next to each other (CUDA: a
/// cluster of blocks): `members()`, and this one's place `member()`. `meet()`: a `sync()` of the
/// team, or `arrive()`, then `await()`, between which no other may be. `reduce(values, op)`, after
/// one: makes each of the M values what op, a commutative one, makes of those of all threads of the
/// team: of threads next to each other, then of pairs next to each other, and so on. `threads<N>`:
/// threads of a team of what is launched with N, if that is for the launch to say.
template <class G>
concept folding_group = thread_group<G> &&
  requires(G const g, float (&values)[2], float (*op)(float, float)) {
  { G::template threads<256> } -> std::convertible_to<unsigned>;
  { g.members() } -> std::convertible_to<unsigned>;
  { g.member() } -> std::convertible_to<unsigned>;
  g.meet();
  g.arrive();
  g.await();
  g.reduce(values, op);
};

/// A trivially copyable function object that a thread group of kind G can run.
template <class P, class G>
concept protocol =
  std::is_trivially_copyable_v<P> && thread_group<G> && std::is_invocable_v<P const&, G const&>;

/// What collectives of the Cpu space take where those of Cuda take a stream.
struct no_stream {};

/// Execution space: the calling CPU thread is the rank.
struct Cpu {
  using stream_type = no_stream;
};

/// Execution space: a grid of CUDA blocks on a stream is the rank. Needs nvcc: <tpx/cuda.cuh>.
struct Cuda;

}  // namespace tpx
