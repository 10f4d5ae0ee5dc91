// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/protocol/wires.hpp>
#include <tpx/runtime/flag.hpp>

namespace tpx {

/// How messages are laid into memory.
enum class lane : int {
  pair,  ///< a slot for each two ranks, in the receiver's window: the sender pushes
  all,   ///< one slot that all others read, in the sender's window: the sender writes once
};

/// Queues of two slots from every rank to every rank: the only place where data changes hands.
///
/// Happens-before. Message m of a queue lies in slot m % 2. The sender fills the slot, then raises
/// `sent` to m with release; the receiver reads the slot after an acquire load saw `sent` >= m. The
/// receiver raises `freed` to m with release once it has read; the sender refills the slot for m+2
/// only after an acquire load saw `freed` >= m. So no slot is read before it is full or filled
/// before it is read. A block's threads meet in sync() before its leader raises a flag and after
/// its leader saw one. Counts only grow and are never reset, so a replayed CUDA graph goes on where
/// the last one ended. Each queue has one sender and one receiver and keeps order; lane `all` is
/// n-1 queues that share their slots.
template <thread_group Group>
class endpoint {
 public:
  TPX_HD endpoint(Group const& group, wires const& w) : group_{group}, w_{w} {}

  [[nodiscard]] TPX_HD int rank() const { return w_.rank; }
  [[nodiscard]] TPX_HD int size() const { return w_.size(); }
  [[nodiscard]] TPX_HD Group const& group() const { return group_; }
  [[nodiscard]] TPX_HD rank_set others() const { return tpx::others(w_); }

  /// Waits until the next slot to each of `to` is free. False: the wait was ended.
  [[nodiscard]] TPX_HD bool open(rank_set to, lane l = lane::pair) const {
    bool ok = true;
    for_mine(to, [&](int r) {
      auto const next = counts().out[index(l)][r] + 1;
      if (next > window_layout::slots) {
        ok = ok &&
             wait(group_, line(rank(), kind_of(l, true), r).flag, next - window_layout::slots, r);
      }
    });
    return group_.all(ok);
  }

  /// The slot to fill for `to`, after open(). Lane `all` has one for all.
  template <class T>
  [[nodiscard]] TPX_HD T* out(int to, lane l = lane::pair) const {
    return slot<T>(l, rank(), to, counts().out[index(l)][to] + 1);
  }

  /// Hands the filled slots to each of `to`.
  TPX_HD void send(rank_set to, lane l = lane::pair) const {
    group_.sync();
    for_mine(to, [&](int r) {
      auto const m = ++counts().out[index(l)][r];
      auto& theirs = line(r, kind_of(l, false), rank());
      theirs.signature[m % window_layout::slots] = w_.signature;
      signal(group_, theirs.flag, m, r);
    });
  }

  /// Waits for the next message of each of `from`. False: the wait was ended, or a rank sent for
  /// another call than this one.
  [[nodiscard]] TPX_HD bool await(rank_set from, lane l = lane::pair) const {
    bool ok = true;
    for_mine(from, [&](int r) {
      auto const m = counts().in[index(l)][r] + 1;
      auto& mine = line(rank(), kind_of(l, false), r);
      ok =
        ok && wait(group_, mine.flag, m, r) && matches(mine.signature[m % window_layout::slots], r);
    });
    return group_.all(ok);
  }

  /// The message that await() saw.
  template <class T>
  [[nodiscard]] TPX_HD T const* in(int from, lane l = lane::pair) const {
    return slot<T>(l, from, rank(), counts().in[index(l)][from] + 1);
  }

  /// Gives the slots of the messages back to each of `from`.
  TPX_HD void release(rank_set from, lane l = lane::pair) const {
    group_.sync();
    for_mine(from, [&](int r) {
      auto const m = ++counts().in[index(l)][r];
      signal(group_, line(r, kind_of(l, true), rank()).flag, m, r);
    });
  }

  /// Tells each of `to` that this rank has come to the barrier that `begin_barrier` counted.
  TPX_HD void arrive(rank_set to) const {
    auto const epoch = counts().barriers;
    for_mine(to, [&](int r) {
      auto& theirs = line(r, window_layout::arrived, rank());
      theirs.signature[epoch % window_layout::slots] = w_.signature;
      signal(group_, theirs.flag, epoch, r);
    });
  }

  TPX_HD void begin_barrier() const {
    group_.sync();
    if (group_.thread_rank() == 0) { ++counts().barriers; }
    group_.sync();
  }

  /// Waits until each of `from` has arrived.
  [[nodiscard]] TPX_HD bool meet(rank_set from) const {
    auto const epoch = counts().barriers;
    bool ok = true;
    for_mine(from, [&](int r) {
      auto& mine = line(rank(), window_layout::arrived, r);
      ok = ok && wait(group_, mine.flag, epoch, r) &&
           matches(mine.signature[epoch % window_layout::slots], r);
    });
    return group_.all(ok);
  }

 private:
  static TPX_HD constexpr int index(lane l) { return static_cast<int>(l); }
  static TPX_HD constexpr window_layout::kind kind_of(lane l, bool back) {
    return l == lane::pair ? (back ? window_layout::freed : window_layout::sent)
                           : (back ? window_layout::freed_all : window_layout::sent_all);
  }

  /// Calls f for those ranks of `set` that fall to this thread.
  template <class F>
  TPX_HD void for_mine(rank_set set, F&& f) const {
    for (int r = static_cast<int>(group_.thread_rank()); r < size();
         r += static_cast<int>(group_.size())) {
      if ((set >> r & 1u) != 0) { f(r); }
    }
  }

  [[nodiscard]] TPX_HD bool matches(std::uint64_t signature, int peer) const {
    if (signature == w_.signature) { return true; }
    group_.mismatch(peer, signature);
    return false;
  }

  [[nodiscard]] TPX_HD int channel() const { return static_cast<int>(group_.channel()); }

  [[nodiscard]] TPX_HD window_layout::line& line(int owner, window_layout::kind k, int peer) const {
    return *reinterpret_cast<window_layout::line*>(w_.window[owner] +
                                                   w_.layout.line_offset(channel(), k, peer));
  }
  [[nodiscard]] TPX_HD window_layout::counts& counts() const {
    return *reinterpret_cast<window_layout::counts*>(w_.window[rank()] +
                                                     w_.layout.counts_offset(channel()));
  }
  template <class T>
  [[nodiscard]] TPX_HD T* slot(lane l, int from, int to, std::uint64_t message) const {
    int const place = static_cast<int>(message % window_layout::slots);
    return reinterpret_cast<T*>(w_.window[l == lane::all ? from : to] +
                                w_.layout.slot_offset(channel(), from, place));
  }

  Group const& group_;
  wires const& w_;
};

}  // namespace tpx
