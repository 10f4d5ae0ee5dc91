// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/cuda/check.cuh>
#include <tpx/cuda/fill.cuh>
#include <tpx/cuda/launch.cuh>
#include <tpx/cuda/trace.cuh>
#include <tpx/cuda/watcher.cuh>
#include <tpx/protocol/pushed_rows.hpp>
#include <tpx/protocol/rolling.hpp>
#include <tpx/protocol/streamed.hpp>
#include <tpx/runtime/cell.hpp>

#include <algorithm>
#include <memory>

namespace tpx::detail {

/// Carries out the calls of a communicator on a GPU: as kernels on the caller's stream.
template <class Transport, class Topology>
class engine<Transport, Topology, Cuda> {
  static constexpr bool by_cells = Topology::flat;

 public:
  engine(group& g, communicator_options const& options)
      : home_{g.home()},
        me_{g.me()},
        options_{options},
        layout_{layout(g.size(), options)},
        memory_{g, layout_.bytes()},
        watcher_{me_, device_} {
    wires_.layout = layout_;
    wires_.at = cell_offsets{layout_};
    wires_.rank = g.rank();
    for (int r = 0; r < g.size(); ++r) { wires_.window[r] = memory_.window(r); }
    if (by_cells) {
      g.guarded("making a communicator", [&] { prepare_cells(); });
    }
    // No rank fills a cell that its owner has yet to empty.
    auto const all = g.exchange(knows_clusters() ? 1 : 0);
    clusters_ = std::all_of(all.begin(), all.begin() + g.size(), [](auto one) { return one != 0; });
  }

  ~engine() {
    // Kernels may still be using the windows, a peer's too; each ends within its deadline.
    current_device const device{device_};
    (void)cudaDeviceSynchronize();
  }

  [[nodiscard]] static constexpr std::size_t bytes_needed(int ranks,
                                                          communicator_options const& options) {
    return layout(ranks, options).bytes() + (by_cells ? sizeof(window_layout::turns) : 0);
  }

  [[nodiscard]] std::string_view transport() const { return memory_.transport(); }

  void check() { watcher_.check(); }

  /// choose(wires, go) calls go(protocol) or go(protocol, blocks). What algorithm it was.
  template <class Choose>
  std::string_view run(call_signature call, std::size_t bytes, cudaStream_t stream,
                       Choose&& choose) {
    check();
    int current = -1;
    cuda_check(cudaGetDevice(&current), "asking for the current device");
    expects(
      current == device_,
      [&] {
        return std::string{name(call.kind)} + ": device " + std::to_string(current) +
               " is current, but the communicator was made on device " + std::to_string(device_);
      },
      "call cudaSetDevice() as when it was made");
    wires w = wires_;
    w.signature = call.pack();
    std::string_view algorithm = "none";
    choose(w, go{*this, stream, w.signature, bytes, algorithm});
    return algorithm;
  }

  template <class Choose>
  void resume(call_signature call, cudaStream_t stream, Choose&& choose) {
    (void)run(call, 0, stream, choose);
  }

 private:
  struct go {
    engine& self;
    cudaStream_t stream;
    std::uint64_t signature;
    std::size_t bytes;
    std::string_view& algorithm;

    static constexpr bool pushes = by_cells;
    /// Over n^2: an all-reduce of up to so many bytes is one-shot, unless the caller says.
    [[nodiscard]] std::size_t one_shot_bytes() const {
      return std::size_t{4} << (self.memory_.on_host() ? 16 : 20);
    }
    [[nodiscard]] std::size_t at_once_bytes() const {
      if (tune().at_once_bytes != 0) { return tune().at_once_bytes; }
      return std::size_t{1} << (self.memory_.on_host() ? 20 : 23);
    }
    [[nodiscard]] unsigned stream_blocks() const {
      if (tune().stream_blocks != 0) { return tune().stream_blocks; }
      return self.memory_.on_host() ? 32 : 128;
    }
    [[nodiscard]] tuning const& tune() const { return self.options_.tune; }

    /// Moves a message of whose rounds each has an area; false if it has more.
    template <class Shots>
    bool at_once(Shots const& shots) const {
      expect_counted(shots, 1);
      constexpr std::size_t each = block_threads;
      unsigned const moving = blocks(shots, each, tune().most_blocks);
      std::uint64_t const rounds = pieces(shots.packets(), moving * each);
      auto const bytes_of_each = shots.packets() * sizeof(packet);
      if (rounds > window_layout::areas || bytes_of_each > at_once_bytes()) { return false; }
      (*this)(tpx::at_once<Shots>{shots, rounds}, moving + 1);
      return true;
    }

    /// Moves a message of any length. Over NVLink cell by cell is faster than to tell of rounds by
    /// flags, which cost a fence; over host memory, where emptying costs the link's bytes, slower.
    template <bool AllToAll, class Shots>
    void by_rounds(Shots const& shots) const {
      if constexpr (!AllToAll || Transport::shared) {
        as_stream(shots);
      } else if constexpr (std::is_same_v<Transport, PeerDirect>) {
        as_roll(shots);
      } else {
        self.memory_.on_host() ? as_stream(shots) : as_roll(shots);
      }
    }
    template <class Shots>
    void as_roll(Shots const& shots) const {
      using kind = rolling<Shots>;
      constexpr std::size_t each = kind::block_threads;
      // What this many multiprocessors hold: more would wait for the first to end.
      constexpr unsigned resident = 128 * kind::resident_threads / kind::block_threads;
      unsigned const moving = blocks(shots, each, std::min(tune().most_blocks, resident));
      (*this)(kind{shots, pieces(shots.packets(), moving * each)}, moving + 1);
    }
    template <class Shots>
    void as_stream(Shots const& shots) const {
      using kind = streamed<Shots>;
      constexpr std::size_t each = std::size_t{kind::block_threads} * kind::slices;
      unsigned const most = std::max(stream_blocks() / kind::steps, 1u);
      unsigned const moving =
        blocks(shots, each, std::min<unsigned>(most, window_layout::max_streams));
      (*this)(kind{shots, pieces(shots.packets(), moving * each)}, moving * kind::steps + 1);
    }

    /// Packets are counted in 32 bits.
    template <class Shots>
    void expect_counted(Shots const& shots, std::size_t rows) const {
      auto const shares = Shots::shots == 2 ? static_cast<std::size_t>(self.layout_.ranks) : 1;
      expects(
        shots.packets() <= deal::most / shares / rows,
        [&] {
          return std::string{name(call_signature::unpack(signature).kind)} + ": an array of " +
                 std::to_string(bytes) + " bytes, where at most 32 GiB go in one call";
        },
        "call it for parts of the array");
    }

    /// The most packets of a round that one rank gives to one other.
    template <class Shots>
    [[nodiscard]] std::size_t lane(Shots const& shots) const {
      int const givers = std::max(shots.wiring().size() - 1, 1);
      return self.layout_.area_cells / static_cast<std::size_t>(givers * Shots::shots);
    }

    /// Blocks that move a message, each so many packets of it a round, which must fit into a lane;
    /// the conductor is one more. From what all ranks know alone, so that all launch the same.
    template <class Shots>
    [[nodiscard]] unsigned blocks(Shots const& shots, std::size_t each, std::size_t bound) const {
      std::size_t const most = std::min({bound, lane(shots) / each, pieces(shots.packets(), each)});
      return static_cast<unsigned>(std::max<std::size_t>(most, 1));
    }

    [[nodiscard]] static std::size_t pieces(std::size_t n, std::size_t each) {
      return (n + each - 1) / each;
    }

    /// An all-reduce of rows whose epilogue wants them whole: as many teams as rows, if the lanes
    /// hold a round of each, and the conductor's.
    template <class Shots>
    void by_rows(Shots const& shots, std::size_t rows) const {
      if (rows == 0) { return; }
      expect_counted(shots, rows);
      self.clusters_ ? by_rows_of<4>(shots, rows) : by_rows_of<1>(shots, rows);
    }
    template <unsigned Members, class Shots>
    void by_rows_of(Shots const& shots, std::size_t rows) const {
      auto const each = pieces(shots.packets(), row_lanes);
      auto const wide = pieces(shots.packets(), each);
      auto const most = std::min<std::size_t>(tune().most_blocks / Members, lane(shots) / wide);
      auto const busy = std::max<std::size_t>(std::min(rows, most), 1);
      auto const rounds = pieces(rows, busy) * each;
      auto const narrow = [](std::size_t n) { return static_cast<std::uint32_t>(n); };
      (*this)(
        rowwise<Shots, Members>{shots, narrow(rows), narrow(each), narrow(wide), narrow(rounds)},
        (narrow(busy) + 1) * Members);
    }

    /// `blocks`: 0: one a channel.
    template <class P>
    void operator()(P const& protocol, unsigned blocks = 0) const {
      if (blocks == 0) { blocks = static_cast<unsigned>(self.layout_.channels); }
      auto const limit = static_cast<std::uint64_t>(self.me_.deadline.count());
      algorithm = algorithm_of<P>;
      trace_range const range{name(call_signature::unpack(signature).kind), algorithm, bytes};
      launch_kernel(protocol, blocks, stream, self.watcher_.watch(), limit, signature);
    }
  };

  void prepare_cells() {
    auto* const first = wires_.window[me_.rank] + layout_.cells_offset(0);
    auto const bytes = layout_.asides_offset(0) - layout_.cells_offset(0);
    fill(first, cells::empty_byte, bytes, nullptr, "emptying the cells");
    // In this GPU's own memory even where windows are not: every call begins with reading it.
    auto const size = sizeof(window_layout::turns);
    cuda_check(cudaMalloc(reinterpret_cast<void**>(&wires_.turns), size), "allocating the turns");
    turns_.reset(wires_.turns);
    cuda_check(cudaMemset(wires_.turns, 0, size), "clearing the turns");
    cuda_check(cudaDeviceSynchronize(), "emptying the cells");
  }

  static constexpr window_layout layout(int ranks, communicator_options const& options) {
    expects(ranks >= 1 && ranks <= max_ranks, "a communicator has 1 to 16 ranks");
    auto const n = static_cast<std::size_t>(ranks);
    window_layout l{.ranks = ranks, .channels = 16, .slot_bytes = 0};
    if (by_cells) {
      auto const most = std::min(options.max_bytes / 4, std::size_t{2} << 20) / sizeof(cell);
      l.channels = 4;
      l.area_cells = std::max<std::size_t>(most, 16384) / cache_line * cache_line;
    }
    std::size_t const whole = options.max_bytes / n / static_cast<std::size_t>(l.channels);
    l.slot_bytes =
      std::clamp<std::size_t>(whole, 1024, by_cells ? 4096 : 16384) / cache_line * cache_line;
    return l;
  }

  static int current() {
    int device = -1;
    cuda_check(cudaGetDevice(&device), "asking for the current device");
    return device;
  }

  std::shared_ptr<world> home_;
  member me_;
  communicator_options options_;
  window_layout layout_;
  int device_ = current();
  typename Transport::template memory<Cuda> memory_;
  device_watcher watcher_;
  wires wires_{};
  bool clusters_ = false;
  struct free_on_device {
    void operator()(void* p) const noexcept { (void)cudaFree(p); }
  };
  std::unique_ptr<window_layout::turns, free_on_device> turns_;
};

}  // namespace tpx::detail
