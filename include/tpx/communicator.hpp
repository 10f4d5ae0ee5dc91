// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>
#include <tpx/op.hpp>
#include <tpx/protocol/wires.hpp>
#include <tpx/topology/all_pairs.hpp>
#include <tpx/topology/ring.hpp>
#include <tpx/topology/tree.hpp>
#include <tpx/transport/auto.hpp>
#include <tpx/transport/host_pinned.hpp>
#include <tpx/transport/nccl.hpp>
#include <tpx/transport/peer_direct.hpp>
#include <tpx/transport/transport.hpp>

#include <algorithm>
#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>

namespace tpx {

/// How collectives on a GPU are carried out. The defaults are what was fastest on H200s
/// (docs/performance.md); every rank must pass the same.
struct tuning {
  /// An all-reduce of up to this many bytes is one-shot; 0: 4 MiB / n^2 over PeerDirect, 256 KiB /
  /// n^2 over HostPinned, all of them for 2 ranks.
  std::size_t one_shot_bytes = 0;
  /// Where a rank is given up to this many bytes by each other one, it is given them at once, cell
  /// by cell, if the windows hold them; longer messages are streamed. 0: 8 MiB over PeerDirect, 1
  /// MiB over HostPinned.
  std::size_t at_once_bytes = 0;
  /// The most blocks that move a message that is given at once.
  unsigned most_blocks = 512;
  /// And one that is streamed; 0: 128 over PeerDirect, 32 over HostPinned.
  unsigned stream_blocks = 0;
};

struct communicator_options {
  /// Bytes of the largest message that goes in one round; longer ones are cut. Memory grows with it
  /// up to 64 KiB a rank on a CPU, where a piece should stay in its cache, and up to 8.5 MiB a rank
  /// on a GPU.
  std::size_t max_bytes = std::size_t{8} << 20;
  tuning tune = {};
};

/// Anything with a std::span over its elements: a vector, an array, a span over device memory.
template <class R>
concept array = requires(R&& r) {
  std::span{r};
};

template <array R>
using element_of = typename decltype(std::span{std::declval<R&>()})::value_type;

template <class Comm>
using stream_of = typename Comm::space_type::stream_type;

/// Tells an epilogue from a stream where either may come last.
template <class E, class Comm>
concept no_stream_of = !std::convertible_to<E, stream_of<Comm>>;

namespace detail {

template <class Space>
inline constexpr bool complete = requires {
  sizeof(Space);
};

/// What a protocol calls itself to people.
template <class P>
inline constexpr std::string_view algorithm_of = [] {
  if constexpr (requires { P::name; }) {
    return std::string_view{P::name};
  } else {
    return std::string_view{"queues"};
  }
}();

/// Carries out the calls of a communicator on a space. That of Cuda is in <tpx/cuda.cuh>.
template <class Transport, class Topology, class Space>
class engine;

/// Each call runs at once, on the calling thread.
template <class Transport, class Topology>
class engine<Transport, Topology, Cpu> {
 public:
  engine(group& g, communicator_options const& options)
      : home_{g.home()},
        me_{g.me()},
        layout_{layout(g.size(), options)},
        calls_{g.share(sizeof(ledger), 0, type_code<engine>())},
        memory_{g, layout_.bytes()},
        waiter_{me_, *reinterpret_cast<ledger*>(calls_->data())} {
    wires_.layout = layout_;
    wires_.rank = g.rank();
    for (int r = 0; r < g.size(); ++r) { wires_.window[r] = memory_.window(r); }
  }

  [[nodiscard]] static constexpr std::size_t bytes_needed(int ranks,
                                                          communicator_options const& options) {
    return layout(ranks, options).bytes() + sizeof(ledger);
  }

  [[nodiscard]] std::string_view transport() const { return memory_.transport(); }

  void check() const { me_.check(); }

  /// What algorithm it was.
  template <class Choose>
  std::string_view run(call_signature call, std::size_t, no_stream, Choose&& choose) {
    waiter_.begin(call);
    wires_.signature = waiter_.signature();
    return resume(call, {}, choose);
  }

  /// The rest of a call that has begun.
  template <class Choose>
  std::string_view resume(call_signature, no_stream, Choose&& choose) {
    std::string_view algorithm = "none";
    choose(std::as_const(wires_), go{waiter_, algorithm});
    waiter_.end();
    return algorithm;
  }

 private:
  struct go {
    host_waiter& waiter;
    std::string_view& algorithm;
    static constexpr bool pushes = false;
    template <class P>
    void operator()(P const& protocol, unsigned = 1) const {
      algorithm = algorithm_of<P>;
      protocol(host_thread{&waiter});
    }
  };

  static constexpr window_layout layout(int ranks, communicator_options const& options) {
    expects(ranks >= 1 && ranks <= max_ranks, "a communicator has 1 to 16 ranks");
    std::size_t const whole = options.max_bytes / static_cast<std::size_t>(ranks);
    std::size_t const slot = std::clamp<std::size_t>(whole, 1024, 65536) / cache_line * cache_line;
    return {.ranks = ranks, .channels = 1, .slot_bytes = slot};
  }

  std::shared_ptr<world> home_;
  member me_;
  window_layout layout_;
  std::shared_ptr<shared_memory> calls_;
  typename Transport::template memory<Cpu> memory_;
  host_waiter waiter_;
  wires wires_{};
};

}  // namespace detail

/// The ranks of a group, joined by a transport in a topology for the collectives of one thread (on
/// Cuda: of one stream after the other).
///
/// All ranks construct it with the same arguments, and call the same collectives with the same
/// sizes, types and operations in the same order; who does not is named in the error that every
/// rank gets. Construction allocates; collectives never do.
///
/// On Cuda it lives on the device that is current when it is made. Calls return once they are in
/// the stream; an error in one is thrown by the next call, or by check().
template <class Transport, class Topology = Auto, class Space = Cuda>
class communicator {
  static_assert(!std::is_same_v<Transport, Nccl> || !std::is_same_v<Space, Cpu>,
                "Nccl moves data between GPUs only: on Cpu use HostPinned or PeerDirect");
  static_assert(detail::complete<Space>,
                "the Cuda space needs nvcc and <tpx/cuda.cuh>: in a .cpp file write "
                "communicator<Transport, Topology, Cpu>");
  static_assert(topology<Topology>,
                "the second argument is a topology: Ring, Tree, AllPairs, Auto");
  static_assert(transport_on<Transport, Space>,
                "this transport does not run on this space: on Cpu use HostPinned or PeerDirect");

 public:
  using transport_type = Transport;
  using topology_type = Topology;
  using space_type = Space;
  using stream_type = typename Space::stream_type;

  explicit communicator(group& g, communicator_options const& options = {})
      : rank_{g.rank()}, size_{g.size()}, engine_{g, options} {}

  communicator(communicator&&) = delete;

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }

  /// The transport in use: where Auto was asked for, what it chose.
  [[nodiscard]] std::string_view transport() const { return engine_.transport(); }

  /// Bytes of memory that each rank brings, for as long as the communicator lives.
  [[nodiscard]] static constexpr std::size_t bytes_needed(
    int ranks, communicator_options const& options = {}) {
    return detail::engine<Transport, Topology, Space>::bytes_needed(ranks, options);
  }

  struct statistics {
    std::uint64_t calls = 0;
    std::uint64_t bytes = 0;  // of this rank's data
    std::uint64_t ns = 0;     // from call to return: on Cpu waiting included, on Cuda not
    std::string_view algorithm = "none";  // of the latest call
  };
  [[nodiscard]] statistics const& stats() const noexcept { return stats_; }

  /// Throws what ended the group, if anything did. On Cuda, a kernel's failure counts once it has
  /// been noticed: at once after a synchronisation with the stream.
  void check() { engine_.check(); }

  /// Carries out one call: announces it, and lets choose(wires, go) call go(protocol) for the
  /// protocol of its choice; throws if a wait was ended. For collectives, shipped and your own.
  template <class Choose>
  void run(call_signature call, std::size_t bytes, stream_type stream, Choose&& choose) {
    expects(
      !staged_, [&] { return std::string{name(call.kind)} + ": a split_barrier is still open"; },
      "wait() for it before the next call");
    auto const begun = detail::now_ns();
    stats_.algorithm = engine_.run(call, bytes, stream, choose);
    ++stats_.calls;
    stats_.bytes += bytes;
    stats_.ns += detail::now_ns() - begun;
  }

  /// run() for the first of two stages of a call: no other call may come before finish().
  template <class Choose>
  void start(call_signature call, stream_type stream, Choose&& choose) {
    run(call, 0, stream, choose);
    staged_ = true;
  }

  /// The second stage.
  template <class Choose>
  void finish(call_signature call, stream_type stream, Choose&& choose) {
    expects(staged_, "this split_barrier has been waited for already");
    staged_ = false;
    auto const begun = detail::now_ns();
    engine_.resume(call, stream, choose);
    stats_.ns += detail::now_ns() - begun;
  }

 private:
  int rank_;
  int size_;
  detail::engine<Transport, Topology, Space> engine_;
  statistics stats_;
  bool staged_ = false;
};

namespace detail {

/// What ranks must agree on besides operation and count, in the operation's place.
constexpr std::uint16_t hash_of(std::uint16_t op, std::uint64_t also) {
  auto const hash = (also * 0x9e3779b97f4a7c15u + op) * 0x100000001b3u;
  return static_cast<std::uint16_t>(hash >> 48 | 0x8000u);
}

/// The signature of a call on elements of T, whose 36 bits of count suffice, or an error. Types of
/// the user's are told apart by their names.
template <class T>
call_signature describe(collective kind, std::size_t count, std::uint16_t op = 0, int root = 0) {
  expects(
    count <= call_signature::max_count,
    [&] {
      return std::string{name(kind)} + ": " + std::to_string(count) + " elements are too many";
    },
    "split the message: one call takes up to 2^36 - 1");
  constexpr bool named = dtype_of<T>() != dtype::other;
  return {kind, dtype_of<T>(), named ? op : static_cast<std::uint16_t>(op ^ type_code<T>()), root,
          count};
}

inline void expect_root(collective kind, int root, int size) {
  expects(root >= 0 && root < size, [&] {
    return std::string{name(kind)} + ": root " + std::to_string(root) +
           " is not a rank of this communicator of " + std::to_string(size);
  });
}

/// Refuses arrays that overlap without being the same.
template <class T>
void expect_apart(collective kind, T const* in, std::size_t n, T const* out, std::size_t m) {
  bool const apart = std::less_equal<>{}(in + n, out) || std::less_equal<>{}(out + m, in);
  expects(
    apart || n == 0 || m == 0,
    [&] { return std::string{name(kind)} + ": input and output overlap in part"; },
    "give the same array for both, or arrays that do not touch");
}

}  // namespace detail
}  // namespace tpx
