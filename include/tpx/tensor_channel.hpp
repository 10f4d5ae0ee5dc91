// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/command_channel.hpp>
#include <tpx/tensor_view.hpp>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace tpx {

/// A tensor in memory shared with the rank that sent it, held until release() or destruction. The
/// bytes must not be read after it. It may outlive its channel, not its group; any thread may
/// release it.
class shared_tensor : public tensor_view {
 public:
  shared_tensor() = default;
  shared_tensor(shared_tensor&& other) noexcept { *this = std::move(other); }
  shared_tensor& operator=(shared_tensor&& other) noexcept {
    if (this != &other) {
      release();
      static_cast<tensor_view&>(*this) = std::exchange(other.view(), {});
      memory_ = std::move(other.memory_);
      released_ = std::exchange(other.released_, nullptr);
      bell_ = other.bell_;
      number_ = other.number_;
    }
    return *this;
  }
  ~shared_tensor() { release(); }

  /// Gives the memory back to the sender.
  void release() noexcept {
    if (released_ != nullptr) {
      flag_ref{*std::exchange(released_, nullptr)}.store(number_, cuda::memory_order_release);
      detail::wake(*bell_);
    }
    memory_.reset();
    view() = {};
  }

 private:
  friend class tensor_channel;
  [[nodiscard]] tensor_view& view() noexcept { return *this; }

  std::shared_ptr<shared_memory> memory_;
  std::uint64_t* released_ = nullptr;  // this rank's word for the tensor
  std::uint32_t* bell_ = nullptr;      // the producer's
  std::uint64_t number_ = 0;
};

/// Tensors from one rank to all others, copied once: the receivers look at the sender's memory.
///
/// Tensors up to `arena_bytes` lie in an arena that is mapped once, first-fit, 128-byte aligned;
/// the producer waits while it is full or 128 tensors are held. Larger ones get a mapping of their
/// own: then send() and receive() are collective calls on the group, and milliseconds. One thread
/// of a rank at a time.
///
/// Happens-before. A tensor's bytes are written before its descriptor is sent, read before the
/// reader raises its `released` word to the tensor's number with release, and overwritten only
/// after acquire loads saw that word of every reader.
class tensor_channel {
 public:
  static constexpr std::size_t alignment = 128;
  static constexpr unsigned max_held = 128;  // tensors in the arena at a time

  /// Every rank calls it with the same arguments. Commits the arena: 64 MiB take about 20 ms.
  explicit tensor_channel(group& g, int producer = 0,
                          std::size_t arena_bytes = std::size_t{64} << 20)
      : group_{g}, descriptors_{g, producer, "tensor_channel"}, arena_bytes_{arena_bytes} {
    expects(arena_bytes >= alignment && arena_bytes <= call_signature::max_count - sizeof(header),
            "tensor_channel: an arena of " + std::to_string(arena_bytes) + " bytes",
            "128 bytes to under 64 GiB");
    arena_bytes_ -= arena_bytes_ % alignment;
    memory_ = g.share(sizeof(header) + arena_bytes_, producer);
    for (unsigned s = max_held; s > 0; --s) { free_.push_back(s - 1); }
    live_.reserve(max_held);
  }

  tensor_channel(tensor_channel&&) = delete;

  [[nodiscard]] std::size_t arena_bytes() const noexcept { return arena_bytes_; }

  /// Copies `t` to all other ranks; the producer alone calls it. Waits for space; past the deadline
  /// the error names the rank that holds the oldest tensor. Errors before anything is sent:
  /// invalid_argument for a shape that overflows, an element type without a name, missing data.
  void send(tensor_view const& t) {
    auto const bytes = checked(t);
    auto const& me = end().me;
    me.check();
    descriptor d{.number = count_ + 1, .bytes = bytes};
    if (me.size > 1 && t) {
      d.type = static_cast<std::uint32_t>(t.type);
      d.dims = t.dims;
      for (std::size_t i = 0; i < t.extents().size(); ++i) { d.shape[i] = t.shape[i]; }
      if (bytes == 0) {
        d.where = place::nowhere;
      } else if (bytes > arena_bytes_) {
        return send_alone(d, t);
      } else {
        d.where = place::arena;
        auto const b = reserve(d.number, bytes);
        d.offset = b.offset;
        d.slot = b.slot;
        std::memcpy(memory_->data() + sizeof(header) + b.offset, t.data, bytes);
      }
    }
    descriptors_.send(d);
    count_ = d.number;
  }

  /// The next tensor; waits for it for the group's deadline. Every rank but the producer calls it.
  /// Errors: what the sender described does not fit this rank's memory (mismatch, naming it).
  [[nodiscard]] shared_tensor receive() { return open(descriptors_.receive()); }

  /// The next tensor, however long it takes.
  [[nodiscard]] shared_tensor receive(idle_forever_t) {
    return open(descriptors_.receive(idle_forever));
  }

  /// The next tensor if it is there.
  [[nodiscard]] std::optional<shared_tensor> try_receive() {
    auto const d = descriptors_.try_receive();
    if (!d) { return std::nullopt; }
    return open(*d);
  }

 private:
  enum class place : std::uint32_t { none, nowhere, arena, alone, filled };

  struct descriptor {
    std::uint64_t number;
    std::uint64_t offset = 0;  // in the arena
    std::uint64_t bytes = 0;
    std::uint64_t shape[tensor_view::max_dims] = {};
    std::uint32_t type = 0;
    std::int32_t dims = -1;
    std::uint32_t slot = 0;  // of `released`
    place where = place::none;
  };

  /// Number of the tensor that a rank last released in each slot; a row has one writer.
  struct header {
    alignas(alignment) std::uint64_t released[max_ranks][max_held];
  };

  struct block {
    std::size_t offset;
    std::size_t bytes;
    std::uint64_t number;
    unsigned slot;
  };

  [[nodiscard]] detail::channel_end const& end() const { return descriptors_.end(); }
  [[nodiscard]] std::uint64_t& released(int rank, unsigned slot) const {
    return std::launder(reinterpret_cast<header*>(memory_->data()))->released[rank][slot];
  }

  /// The bytes of a tensor that can be sent.
  [[nodiscard]] std::size_t checked(tensor_view const& t) const {
    if (!t) { return 0; }
    expects(t.dims <= tensor_view::max_dims, "tensor_channel: a tensor has 8 dimensions at most");
    expects(size_of(t.type) != 0, "tensor_channel: the elements are of a type that tpx cannot name",
            "send them as uint8");
    auto const bytes = t.bytes();
    auto const of_bytes = [&] {
      return "tensor_channel: a tensor of " + std::to_string(bytes) + " bytes";
    };
    expects(bytes <= call_signature::max_count, of_bytes, "send it in parts of under 64 GiB");
    expects(bytes == 0 || t.data != nullptr, [&] { return of_bytes() + " without data"; });
    return bytes;
  }

  /// Space and a slot for the tensor, waiting for readers to release others.
  block reserve(std::uint64_t number, std::size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    detail::channel_thread self{end(), "has not released tensor #", 0};
    for (unsigned polls = 0;; ++polls) {
      if (reap()) { polls = 0; }
      std::size_t at = 0;
      std::size_t i = 0;
      while (i < live_.size() && live_[i].offset - at < bytes) {
        at = live_[i].offset + live_[i].bytes;
        ++i;
      }
      if (!free_.empty() && arena_bytes_ - at >= bytes) {
        block const b{at, bytes, number, free_.back()};
        free_.pop_back();
        live_.insert(live_.begin() + static_cast<std::ptrdiff_t>(i), b);
        return b;
      }
      auto const& oldest = *std::min_element(live_.begin(), live_.end(),
                                             [](auto& a, auto& b) { return a.number < b.number; });
      self.now_for(oldest.number);
      int const r = holder(oldest);
      if (r >= 0) { self.pause(polls, released(r, oldest.slot), oldest.number, r); }
    }
  }

  /// Takes back what all readers have released; whether there was any.
  bool reap() {
    return std::erase_if(live_, [&](block const& b) {
             if (holder(b) >= 0) { return false; }
             free_.push_back(b.slot);
             return true;
           }) > 0;
  }

  /// A rank that has not released the tensor; -1 when all have.
  [[nodiscard]] int holder(block const& b) const {
    for (int r = 0; r < end().me.size; ++r) {
      if (r == end().me.rank) { continue; }
      auto const last = flag_ref{released(r, b.slot)}.load(cuda::memory_order_acquire);
      if (last > b.number) {
        end().distrust(r, b.number,
                       "that it released tensor #" + std::to_string(last) + " where #" +
                         std::to_string(b.number) + " lies");
      }
      if (last < b.number) { return r; }
    }
    return -1;
  }

  /// The others learn the size, come to share(), and see the bytes with a second message.
  void send_alone(descriptor d, tensor_view const& t) {
    d.where = place::alone;
    descriptors_.send(d);
    auto const memory = group_.share(d.bytes, end().me.rank);
    std::memcpy(memory->data(), t.data, d.bytes);
    descriptors_.send({.number = d.number, .where = place::filled});
    count_ = d.number;
  }

  /// The tensor that a descriptor describes, once all of it is known to lie in this rank's mapping.
  shared_tensor open(descriptor const& d) {
    ++count_;
    shared_tensor t;
    require(d.number == count_, d, "number " + std::to_string(d.number));
    if (d.where == place::none) { return t; }
    t.dims = d.dims;
    require(d.dims >= 0 && d.dims <= tensor_view::max_dims, d,
            std::to_string(d.dims) + " dimensions");
    require(d.type < static_cast<std::uint32_t>(dtype::other), d,
            "element type " + std::to_string(d.type));
    t.type = static_cast<dtype>(d.type);
    for (std::size_t i = 0; i < t.extents().size(); ++i) { t.shape[i] = d.shape[i]; }
    auto const bytes = detail::product(t.extents(), size_of(t.type));
    require(bytes == d.bytes, d, std::to_string(d.bytes) + " bytes, which its shape has not");
    auto const expected = d.bytes == 0             ? place::nowhere
                          : d.bytes > arena_bytes_ ? place::alone
                                                   : place::arena;
    require(d.where == expected, d, "place " + std::to_string(static_cast<unsigned>(d.where)));
    t.memory_ = memory_;
    t.data = memory_->data() + sizeof(header);
    if (d.where == place::arena) {
      require(
        d.offset % alignment == 0 && d.offset < arena_bytes_ && d.bytes <= arena_bytes_ - d.offset,
        d,
        "offset " + std::to_string(d.offset) + " + " + std::to_string(d.bytes) +
          " bytes in an arena of " + std::to_string(arena_bytes_));
      require(d.slot < max_held, d, "slot " + std::to_string(d.slot));
      t.data += d.offset;
      t.released_ = &released(end().me.rank, d.slot);
      t.bell_ = &end().me.control->bells[end().me.seat[producer()]].asleep;
      t.number_ = count_;
    } else if (d.where == place::alone) {
      require(d.bytes <= call_signature::max_count, d, std::to_string(d.bytes) + " bytes");
      t.memory_ = group_.share(d.bytes, producer());
      t.data = t.memory_->data();
      auto const done = descriptors_.receive();
      require(done.number == count_ && done.where == place::filled, done, "another tensor first");
    }
    return t;
  }

  void require(bool good, descriptor const& d, std::string const& what) const {
    if (!good) { end().distrust(producer(), d.number, "a tensor descriptor with " + what); }
  }

  [[nodiscard]] int producer() const { return descriptors_.writer(); }

  group& group_;
  command_channel<descriptor> descriptors_;
  std::size_t arena_bytes_;
  std::shared_ptr<shared_memory> memory_;
  std::uint64_t count_ = 0;     // tensors sent or received
  std::vector<block> live_;     // by offset; the producer's
  std::vector<unsigned> free_;  // slots of `released`
};

}  // namespace tpx
