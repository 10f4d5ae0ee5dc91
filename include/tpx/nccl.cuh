// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// communicator<Nccl>: include it beside <tpx/cuda.cuh> and link tpx::nccl.
#include <tpx/communicator.hpp>
#include <tpx/cuda/launch.cuh>
#include <tpx/cuda/space.cuh>
#include <tpx/protocol/rows.hpp>
#include <tpx/transport/nccl_calls.cuh>
#include <tpx/transport/nccl_session.cuh>
#include <tpx/transport/nccl_start.cuh>
#include <tpx/transport/nccl_window.cuh>

namespace tpx {

/// The ranks' GPUs, joined by NCCL: its own collectives, in its own order of addition (the topology
/// has no say), 16-bit types added in their own type as NCCL does.
///
/// What NCCL lacks (other operations, epilogues, element types, rows with gaps, uneven shares,
/// floating-point minimum and maximum that keep NaN) is made of what it has, through a scratch of
/// max_bytes, at most 8 MiB: added in rank order or in fp32.
///
/// Failures are found by the host: ranks compare their calls, a thread for each communicator looks
/// every 2 ms, and aborts NCCL's communicator when the group ends, so that kernels leave.
/// Cost: tpx's own communicator does not block in NCCL, so that it can be aborted at any time; NCCL
/// then starts a thread for each eager call, some tens of microseconds. Captured calls have no such
/// cost, nor have eager ones on an adopted communicator that blocks.
/// After an error a peer's kernel may still write into the arrays of a rank of its process for a
/// moment: keep them until every rank has had its error.
template <class Topology>
class communicator<Nccl, Topology, Cuda> {
  static_assert(topology<Topology>,
                "the second argument is a topology: Ring, Tree, AllPairs, Auto");

 public:
  using transport_type = Nccl;
  using topology_type = Topology;
  using space_type = Cuda;
  using stream_type = cudaStream_t;

  /// Makes a communicator of NCCL on the GPUs that are current, each another one, and runs one
  /// all-reduce. Errors: nccl, timeout, mismatch (another NCCL or other options), on every rank.
  explicit communicator(group& g, communicator_options const& options = {},
                        nccl_options const& own = {})
      : communicator{nullptr, g, options, own} {}

  /// Adopts the caller's communicator, whose ranks are the group's and which outlives this. It is
  /// the caller's to destroy unless the group ended: then it was aborted, and `handle()` is null.
  communicator(ncclComm_t callers, group& g, communicator_options const& options = {},
               nccl_options const& own = {})
      : communicator{detail::nccl_meet(g, callers, detail::type_code<communicator>(),
                                       scratch_bytes(g.size(), options), own),
                     g.size(), own, g.me().deadline} {}

  /// Adopts the caller's communicator without a group, of any hosts: its ranks' calls are not
  /// compared, and a failure here is not told to the others.
  explicit communicator(ncclComm_t callers, communicator_options const& options = {},
                        nccl_options const& own = {})
      : communicator{
          detail::nccl_adopt(callers, scratch_bytes(detail::nccl_ranks(callers), options), own),
          detail::nccl_ranks(callers), own, own.deadline} {}

  communicator(communicator&&) = delete;

  [[nodiscard]] int rank() const noexcept { return session_.state().rank(); }
  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] static constexpr std::string_view transport() { return "Nccl"; }

  /// Bytes of memory that each rank brings, NCCL's own (hundreds of MB) not counted.
  [[nodiscard]] static constexpr std::size_t bytes_needed(
    int ranks, communicator_options const& options = {}) {
    expects(ranks >= 1 && ranks <= max_ranks, "a communicator has 1 to 16 ranks");
    return scratch_bytes(ranks, options) + detail::nccl_memory::head + sizeof(detail::nccl_marks) +
           sizeof(detail::nccl_meeting);
  }

  struct statistics {
    std::uint64_t calls = 0;
    std::uint64_t bytes = 0;  // of this rank's data
    std::uint64_t ns = 0;     // that the host spent in calls
  };
  [[nodiscard]] statistics const& stats() const noexcept { return stats_; }

  /// NCCL's communicator, for calls of your own between tpx's; null once it was aborted.
  [[nodiscard]] ncclComm_t handle() const noexcept { return session_.state().handle(); }

  /// Throws what ended the group or this communicator, if anything did.
  void check() const { session_.state().check(); }

  /// Waits for all work on a stream, and throws as check() does.
  void synchronize(cudaStream_t stream) {
    for (unsigned polls = 0;; ++polls) {
      auto const status = cudaStreamQuery(stream);
      if (status != cudaErrorNotReady) {
        check();
        detail::cuda_check(status, "waiting for a stream");
        return;
      }
      (void)cudaGetLastError();  // not ready is no error for whoever asks next
      check();
      if (polls < 1000) {
        detail::relax();
      } else {
        ::sched_yield();
      }
    }
  }

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  /// Registers memory of nccl_buffer (or VMM memory, from a multiple of 4096) as a symmetric
  /// window. All ranks call it, each with its own memory.
  nccl_window register_buffer(void* data, std::size_t bytes) {
    expects(reinterpret_cast<std::uintptr_t>(data) % 4096 == 0,
            "register_buffer: the memory does not begin at a multiple of 4096",
            "allocate it as nccl_buffer");
    return {session_.share(), data, bytes};
  }
#endif

  // What the collectives' headers call once they have checked the arguments.

  template <class T, class Op, class Epilogue>
  void allreduce(call_signature call, T const* in, T* out, std::size_t n, Op op, Epilogue epilogue,
                 cudaStream_t stream) {
    run(call, n * sizeof(T), n != 0, stream, [&](detail::nccl_calls const& nccl) {
      if constexpr (row_epilogue<Epilogue, accumulate_t<T>>) {
        row_pass<T, Epilogue> const pass{out, n / epilogue.columns, epilogue};
        detail::load_kernel<row_pass<T, Epilogue>>();
        nccl.allreduce(in, out, n, op, epilogue);
        detail::launch_kernel(pass, pass.blocks(), stream, nullptr, 0, 0);
      } else {
        nccl.allreduce(in, out, n, op, epilogue);
      }
    });
  }

  template <class T>
  void broadcast(call_signature call, T* x, std::size_t n, int root, cudaStream_t stream) {
    run(call, n * sizeof(T), n != 0, stream,
        [&](detail::nccl_calls const& nccl) { nccl.broadcast(x, n, root); });
  }

  /// `held` names each column once; `in`: this rank's columns of it.
  template <class T>
  void allgather(call_signature call, columns const& held, std::size_t rows, T const* in,
                 std::size_t in_pitch, T* out, std::size_t out_pitch, cudaStream_t stream) {
    run(call, rows * held.size(rank()) * sizeof(T), any(rows, held), stream,
        [&](detail::nccl_calls const& nccl) {
          nccl.allgather(held, rows, in, in_pitch, out, out_pitch);
        });
  }

  template <class T, class Op, class Epilogue>
  void reduce_scatter(call_signature call, columns const& cut, std::size_t rows, T const* in,
                      std::size_t in_pitch, T* out, Op op, Epilogue epilogue, cudaStream_t stream) {
    run(call, rows * in_pitch * sizeof(T), any(rows, cut), stream,
        [&](detail::nccl_calls const& nccl) {
          nccl.reduce_scatter(cut, rows, in, in_pitch, out, op, epilogue);
        });
  }

  /// `source` names each column once; `in` begins with column `in_begin`.
  template <class T>
  void gather(call_signature call, columns const& source, columns const& target, std::size_t rows,
              T const* in, std::size_t in_pitch, std::size_t in_begin, T* out,
              std::size_t out_pitch, cudaStream_t stream) {
    run(call, rows * source.size(rank()) * sizeof(T), any(rows, source), stream,
        [&](detail::nccl_calls const& nccl) {
          nccl.gather(source, target, rows, in, in_pitch, in_begin, out, out_pitch);
        });
  }

  void barrier(call_signature call, cudaStream_t stream) {
    run(call, 0, true, stream, [](detail::nccl_calls const& nccl) { nccl.barrier(); });
  }

 private:
  communicator(std::shared_ptr<detail::nccl_state> state, int size, nccl_options const& own,
               std::chrono::nanoseconds deadline)
      : session_{std::move(state)}, size_{size}, watch_replays_{own.watch_replays} {
    auto& s = session_.state();
    detail::nccl_load<detail::nccl_mark>(s.device());
    cudaStream_t const stream = s.memory().stream();
    barrier({collective::barrier}, stream);
    synchronize(stream);
    s.limit(deadline);
    stats_ = {};
  }

  static constexpr std::size_t scratch_bytes(int ranks, communicator_options const& options) {
    std::size_t const least = std::size_t{4096} * static_cast<std::size_t>(ranks);
    return std::clamp<std::size_t>(options.max_bytes, least, std::size_t{8} << 20) / 256 * 256;
  }

  [[nodiscard]] bool any(std::size_t rows, columns const& c) const {
    for (int r = 0; r < size_; ++r) {
      if (rows * c.size(r) != 0) { return true; }
    }
    return false;
  }

  /// One call: `moves`: whether it has anything to do, the same on every rank.
  template <class F>
  void run(call_signature call, std::size_t bytes, bool moves, cudaStream_t stream, F&& f) {
    auto const begun = detail::now_ns();
    auto& s = session_.state();
    int device = 0;
    detail::cuda_check(cudaGetDevice(&device), "asking for the current GPU");
    expects(device == s.device(), [&] {
      return std::string{name(call.kind)} + ": GPU " + std::to_string(device) +
             " is current, the communicator was made on GPU " + std::to_string(s.device());
    });
    s.begin(call);
    ++stats_.calls;
    stats_.bytes += bytes;
    if (moves) {
      s.await_all();
      carry_out(s, stream, f);
    }
    stats_.ns += detail::now_ns() - begun;
  }

  template <class F>
  void carry_out(detail::nccl_state& s, cudaStream_t stream, F&& f) {
    detail::nccl_calls const nccl{s, size_, stream};
    auto status = cudaStreamCaptureStatusNone;
    detail::cuda_check(cudaStreamIsCapturing(stream, &status), "asking whether a stream captures");
    if (status == cudaStreamCaptureStatusNone) {
      while (!s.pending().has_room()) {
        check();
        (void)s.idle();
      }
      s.pending().open(stream);
      f(nccl);
      s.pending().close(stream, s.current());
    } else if (watch_replays_) {
      detail::nccl_launch(s.memory().mark(s.current().signature), 1, stream);
      f(nccl);
      detail::nccl_launch(s.memory().mark(0), 1, stream);
    } else {
      f(nccl);
    }
  }

  detail::nccl_session session_;
  int size_;
  bool watch_replays_;
  statistics stats_;
};

}  // namespace tpx
