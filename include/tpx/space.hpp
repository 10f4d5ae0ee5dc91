// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace tpx {

/// The threads that together act as one rank: one CPU thread, or the CUDA blocks of one kernel.
///
/// 1. `thread_rank()`, `size()`, `sync()`: the threads of one channel, as in cooperative groups.
/// 2. `channel()`, `channels()`: independent parts of the rank (CUDA: blocks), each with its own
///    flags and slots.
/// 3. `all(ok)`: a `sync()` that tells whether every thread of the channel passed true.
/// 4. `tile`: how many neighbouring elements one thread handles at a time.
/// 5. `pause(polls, flag, value, peer)`: called between two polls of a flag that rank `peer` is to
///    raise to `value`; false says stop waiting: the group was aborted or the deadline is over.
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
  { g.pause(polls, flag, value, peer) } -> std::same_as<bool>;
  g.sync();
  g.ring(peer);
  g.mismatch(peer, value);
};

/// A trivially copyable function object that a thread group of kind G can run.
template <class P, class G>
concept protocol =
  std::is_trivially_copyable_v<P> && thread_group<G> && std::is_invocable_v<P const&, G const&>;

/// Execution space: the calling CPU thread is the rank.
struct Cpu {};

/// Execution space: a grid of CUDA blocks on a stream is the rank. Needs nvcc: <tpx/cuda.cuh>.
struct Cuda;

}  // namespace tpx
