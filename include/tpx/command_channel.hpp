// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>
#include <tpx/op.hpp>
#include <tpx/runtime/channel_thread.hpp>
#include <tpx/runtime/flag.hpp>

#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string_view>

namespace tpx {

/// Plain messages of one size from one rank to all others, each of whom reads all of them in order:
/// how the rank that decides tells the others what to run next.
///
/// A ring of `Slots` messages in memory that all ranks map. The writer runs ahead of the slowest
/// reader by `Slots` at most, then waits for it. A hop is one cache line from the writer's core to
/// the reader's while the reader spins, and a futex once it sleeps. The bytes of a message are the
/// writer's: what they say is not checked here. One thread of a rank at a time.
///
/// Happens-before. Message m lies in slot m % Slots. The writer fills it, then raises the slot's
/// number to m with release; a reader copies it after an acquire load saw m, then raises its own
/// `read` to m with release; the writer refills the slot for m + Slots only after acquire loads saw
/// every `read` >= m. Numbers only grow and each has one writer.
template <class Message, unsigned Slots = 64>
class command_channel {
  static_assert(std::is_trivially_copyable_v<Message>,
                "a message is copied as bytes: use plain structs, and a tensor_channel for data");
  static_assert(std::has_single_bit(Slots), "Slots must be a power of two");

 public:
  /// Every rank of `g` calls it with the same `writer`. `name` stands in errors. Milliseconds.
  explicit command_channel(group& g, int writer = 0, std::string_view name = "command_channel")
      : home_{g.home()}, end_{g.me(), std::string{name}}, writer_{writer} {
    expects(writer >= 0 && writer < g.size(),
            end_.operation + ": writer " + std::to_string(writer) +
              " is not a rank of this group of " + std::to_string(g.size()));
    memory_ = g.share(sizeof(ring), writer, purpose(name));
    end_.lines = here().line;
  }

  command_channel(command_channel&&) = delete;

  [[nodiscard]] int writer() const noexcept { return writer_; }

  /// Messages that this rank has sent or read.
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

  /// Sends to all other ranks. The writer alone calls it. Waits for the slowest reader if that one
  /// has not read the message before the last `Slots`; past the deadline the error names it.
  void send(Message const& message) {
    auto const& me = end_.me;
    expects(
      me.rank == writer_,
      [&] {
        return end_.operation + ": rank " + std::to_string(me.rank) + " sent, and rank " +
               std::to_string(writer_) + " is the writer";
      },
      "make a channel for each rank that sends");
    me.check();
    auto const number = count_ + 1;
    if (number > Slots) { await_readers(number - Slots); }
    auto& place = here().slots[number % Slots];
    std::memcpy(place.body, &message, sizeof(Message));
    detail::channel_thread const self{end_, "", number};
    flag_ref{place.number}.store(number, cuda::memory_order_release);
    for (int r = 0; r < me.size; ++r) {
      if (r != writer_) { self.ring(r); }
    }
    count_ = number;
  }

  /// The next message; waits for it for the group's deadline. Every rank but the writer calls it.
  Message receive() { return take(false); }

  /// The next message, however long it takes; costs no CPU after a moment.
  Message receive(idle_forever_t) { return take(true); }

  /// The next message if it is there. Throws like receive().
  std::optional<Message> try_receive() {
    prepare();
    auto& place = here().slots[(count_ + 1) % Slots];
    if (flag_ref{place.number}.load(cuda::memory_order_acquire) <= count_) { return std::nullopt; }
    return copy_out(place);
  }

  /// For channels that are built on this one.
  [[nodiscard]] detail::channel_end const& end() const noexcept { return end_; }

 private:
  /// Tells channels of other names or messages apart while they are made.
  static std::uint16_t purpose(std::string_view name) {
    std::uint32_t hash = detail::type_code<command_channel>();
    for (char const c : name) { hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u; }
    return static_cast<std::uint16_t>(hash ^ hash >> 16);
  }

  struct alignas(cache_line) slot {
    std::uint64_t number;  // of the message that it holds, stored last
    std::byte body[sizeof(Message)];
  };
  struct ring {
    detail::channel_line line[max_ranks];
    slot slots[Slots];
  };

  [[nodiscard]] ring& here() const {
    return *std::launder(reinterpret_cast<ring*>(memory_->data()));
  }

  /// Waits until every reader has read message `number`.
  void await_readers(std::uint64_t number) {
    detail::channel_thread const self{end_, "has not read message #", number};
    for (int r = 0; r < end_.me.size; ++r) {
      auto& known = read_[static_cast<std::size_t>(r)];
      if (r == writer_ || known >= number) { continue; }
      auto& theirs = here().line[r].read;
      static_cast<void>(wait(self, theirs, number, r));
      known = flag_ref{theirs}.load(cuda::memory_order_relaxed);
      if (known > count_) {
        end_.distrust(r, number,
                      "that it read " + std::to_string(known) + " messages of " +
                        std::to_string(count_) + " that were sent");
      }
    }
  }

  void prepare() const {
    expects(
      end_.me.rank != writer_,
      [&] {
        return end_.operation + ": rank " + std::to_string(writer_) +
               " is the writer and would wait for itself";
      },
      "let it use what it sent");
    end_.me.check();
  }

  Message take(bool forever) {
    prepare();
    auto& place = here().slots[(count_ + 1) % Slots];
    detail::channel_thread const self{end_, "has not sent message #", count_ + 1, forever};
    static_cast<void>(wait(self, place.number, count_ + 1, writer_));
    return copy_out(place);
  }

  Message copy_out(slot& place) {
    auto const number = count_ + 1;
    auto const found = flag_ref{place.number}.load(cuda::memory_order_relaxed);
    if (found != number) {
      end_.distrust(
        writer_, number,
        "message #" + std::to_string(found) + " over #" + std::to_string(number) + ", unread");
    }
    std::array<std::byte, sizeof(Message)> bytes;
    std::memcpy(bytes.data(), place.body, sizeof(Message));
    detail::channel_thread const self{end_, "", number};
    signal(self, here().line[end_.me.rank].read, number, writer_);
    count_ = number;
    return std::bit_cast<Message>(bytes);
  }

  std::shared_ptr<world> home_;
  detail::channel_end end_;
  int writer_;
  std::uint64_t count_ = 0;
  std::array<std::uint64_t, max_ranks> read_{};  // what each reader's line last said
  std::shared_ptr<shared_memory> memory_;
};

}  // namespace tpx
