// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "device.cuh"
#include "exllama_baseline.cuh"
#include "gate.hpp"
#include "report.hpp"
#include "tpx_rows.cuh"
#if defined(TPX_BENCH_NCCL)
#  include "nccl_rows.cuh"
#endif

#include <cuda/atomic>

#include <optional>

namespace bench {

template <class Collective>
shape shape_of(std::size_t count, std::size_t element_bytes, int ranks, int rank, int root) {
  shape s{.kind = Collective::kind, .ranks = ranks, .rank = rank, .root = root};
  if (s.kind == result::nothing) { return s; }
  auto const n = static_cast<std::size_t>(ranks);
  auto const whole = std::max<std::size_t>(16 / element_bytes, 1);
  s.shard = count / n >= whole ? count / n / whole * whole : count / n;
  bool const shares = s.kind == result::own_sum || s.kind == result::copy_of_all;
  std::size_t const all = shares ? n * s.shard : count;
  s.in = s.kind == result::copy_of_all ? s.shard : all;
  s.out = s.kind == result::own_sum ? s.shard : all;
  if (Collective::rooted && s.kind == result::copy_of_all && rank != root) { s.out = 0; }
  return s;
}

/// Bus bandwidth over algorithm bandwidth, as nccl-tests has it.
inline double bus_factor(result kind, int ranks) {
  double const n = ranks;
  switch (kind) {
    case result::sum:
      return 2 * (n - 1) / n;
    case result::own_sum:
    case result::copy_of_all:
      return (n - 1) / n;
    default:
      return 1;
  }
}

/// A barrier's check: each rank comes at its own time and says so; after the barrier, all have.
using presence = cuda::atomic_ref<unsigned, cuda::thread_scope_system>;
static __global__ void come(unsigned* present, unsigned round, unsigned late_ns) {
  for (unsigned t = 0; t < late_ns; t += 1000) { __nanosleep(1000); }
  presence{*present}.store(round, cuda::memory_order_relaxed);
}
static __global__ void count_absent(unsigned* present, int ranks, unsigned round, findings* found) {
  for (int r = 0; r < ranks; ++r) {
    found->wrong += presence{present[r]}.load(cuda::memory_order_relaxed) < round ? 1 : 0;
  }
}

/// What the rank threads share.
struct meeting {
  explicit meeting(int ranks) : threads{ranks} {
    check_cuda(cudaHostAlloc(&present, tpx::max_ranks * sizeof(unsigned), cudaHostAllocPortable),
               "page-locked memory");
    std::fill_n(present, tpx::max_ranks, 0u);
  }
  meeting(meeting&&) = delete;
  ~meeting() { cudaFreeHost(present); }

  gate threads;
  std::vector<std::vector<call>> calls;                 // row, rank
  std::vector<std::vector<std::vector<double>>> times;  // row, rank, replay: us
  std::vector<std::vector<findings>> found;             // row, rank
  unsigned* present = nullptr;                          // by rank
};

/// One rank's part of the whole benchmark.
template <class Collective, class T>
class rank_bench {
 public:
  template <class Start>
  rank_bench(tpx::group& g, options const& o, meeting& m, Start const& start, int devices)
      : g_{g}, o_{o}, m_{m} {
    check_cuda(cudaSetDevice(g.rank() % devices), "cudaSetDevice");
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    check_cuda(cudaEventCreate(&begin_), "an event");
    check_cuda(cudaEventCreate(&end_), "an event");
    std::size_t const bytes = arrays::needed(o.end, o.offset);
    for (auto& memory : memory_) { memory.emplace(bytes); }
    auto const plain = std::make_shared<arrays>(memory_[0]->get(), memory_[1]->get(), bytes);
    found_.emplace(sizeof(findings));
    if (o.epilogue != "none") { fill_residual(); }
    void* const residual = residual_ ? residual_->get() : nullptr;
    if (o.transport == "peer") {
      add_tpx_rows<Collective, T, tpx::PeerDirect>(rows_, g, o, plain, residual);
    } else {
      add_tpx_rows<Collective, T, tpx::HostPinned>(rows_, g, o, plain, residual);
    }
#if defined(TPX_BENCH_NCCL)
    if (o.peers) { add_nccl_rows<Collective, T>(rows_, g, o, start, plain, bytes); }
#endif
    if (o.baseline == "exllamav2") { rows_.push_back(exllama_row<T>(g, plain, o.end + 16)); }
    if (rank() == 0) {
      auto const ranks = static_cast<std::size_t>(g.size());
      m.calls.assign(rows_.size(), std::vector<call>(ranks));
      m.times.assign(rows_.size(), std::vector<std::vector<double>>(ranks));
      m.found.assign(rows_.size(), std::vector<findings>(ranks));
    }
    meet();
    static_cast<void>(start);
  }
  rank_bench(rank_bench&&) = delete;
  ~rank_bench() {
    rows_.clear();  // communicators go before the stream that they used
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }

  /// `out`: where rank 0 writes.
  void run(report& out) {
    for (std::size_t bytes = o_.begin; bytes <= o_.end;
         bytes *= static_cast<std::size_t>(o_.factor)) {
      auto const s =
        shape_of<Collective>(bytes / sizeof(T), sizeof(T), g_.size(), g_.rank(), o_.root);
      size(s, bytes, out);
      if (s.kind == result::nothing) { break; }
    }
  }

 private:
  std::size_t rank() const {
    return static_cast<std::size_t>(g_.rank());
  }
  void meet() {
    m_.threads.wait(g_);
  }

  void fill_residual() {
    residual_.emplace(o_.end + sizeof(T));
    fill<<<512, 256, 0, stream_>>>(static_cast<T*>(residual_->get()), o_.end / sizeof(T), 0u,
                                   tpx::max_ranks);
    check_cuda(cudaGetLastError(), "filling the residual");
    check_cuda(cudaStreamSynchronize(stream_), "filling the residual");
  }

  void size(shape const& s, std::size_t bytes, report& out) {
    int const ops = o_.ops_of(bytes);
    int const replays = o_.replays_of(bytes);
    std::vector<std::unique_ptr<graph>> graphs(rows_.size());
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      graphs[i] = make_ready(i, s, ops);
      m_.times[i][rank()].clear();
    }
    for (int replay = 0; replay < replays; ++replay) {
      for (std::size_t i = 0; i < rows_.size(); ++i) {
        m_.times[i][rank()].push_back(time(i, graphs[i].get()) / ops);
      }
    }
    meet();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (mine(i)) { rows_[i].settle(); }
      if (o_.check) { m_.found[i][rank()] = verify(i, graphs[i].get()); }
    }
    meet();
    if (rank() == 0) { tell(s, out); }
    meet();
  }

  bool in_place() const {
    return o_.in_place || Collective::kind == result::copy_of_root;
  }
  bool mine(std::size_t i) const {
    return !rows_[i].solo || g_.rank() == 0;
  }
  void synchronize() {
    check_cuda(cudaStreamSynchronize(stream_), "a collective");
  }

  void enqueue(std::size_t i, int ops) {
    if (!mine(i)) { return; }
    if (rows_[i].solo) {
      rows_[i].enqueue_all(m_.calls[i], ops);
    } else {
      for (int k = 0; k < ops; ++k) { rows_[i].enqueue(m_.calls[i][rank()]); }
    }
  }

  /// The graph, or one call.
  void launch(std::size_t i, graph const* captured) {
    captured != nullptr ? captured->launch(stream_) : enqueue(i, 1);
  }

  /// Calls once, captures, and warms up. Ranks meet between the steps: no memory is made and no
  /// kernel loaded while another rank already waits inside a collective.
  std::unique_ptr<graph> make_ready(std::size_t i, shape s, int ops) {
    auto& memory = *rows_[i].memory;
    memory.template place<T>(s, o_.offset, in_place());
    s.residual = rows_[i].residual;
    m_.calls[i][rank()] = {memory.template x<T>(), memory.template y<T>(), s, stream_};
    memory.template prepare<T>(s, 1, stream_);
    meet();
    enqueue(i, 1);
    synchronize();
    if (mine(i)) { rows_[i].settle(); }
    meet();
    std::unique_ptr<graph> captured;
    if (!o_.eager && mine(i)) {
      captured = std::make_unique<graph>(stream_, [&] { enqueue(i, ops); });
    }
    for (int k = 0; k < o_.warm_up; ++k) {
      meet();
      if (mine(i)) { launch(i, captured.get()); }
      synchronize();
    }
    meet();
    return captured;
  }

  /// Microseconds between the events; 0 for a rank that has no part in it.
  double time(std::size_t i, graph const* captured) {
    meet();
    if (!mine(i)) { return 0; }
    check_cuda(cudaEventRecord(begin_, stream_), "cudaEventRecord");
    launch(i, captured);
    check_cuda(cudaEventRecord(end_, stream_), "cudaEventRecord");
    check_cuda(cudaEventSynchronize(end_), "a collective");
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, begin_, end_), "cudaEventElapsedTime");
    return double{ms} * 1e3;
  }

  findings verify(std::size_t i, graph const* captured) {
    auto const& s = m_.calls[i][rank()].s;
    if (s.kind == result::nothing) { return verify_barrier(i); }
    auto& memory = *rows_[i].memory;
    auto const round = static_cast<unsigned>(2 + i);
    memory.template prepare<T>(s, round, stream_);
    meet();
    // A sum in place is the next call's input: one call only.
    if (mine(i)) { launch(i, in_place() && s.sums() ? nullptr : captured); }
    synchronize();
    if (mine(i)) { rows_[i].settle(); }
    meet();
    return memory.template examine<T>(s, round, stream_, static_cast<findings*>(found_->get()));
  }

  findings verify_barrier(std::size_t row) {
    auto* const device = static_cast<findings*>(found_->get());
    findings found{};
    for (int i = 0; i < 20; ++i) {
      unsigned const round = ++round_;
      auto const late = static_cast<unsigned>((g_.rank() + i) % g_.size()) * 20000u;
      check_cuda(cudaMemsetAsync(device, 0, sizeof(findings), stream_), "clearing the findings");
      come<<<1, 1, 0, stream_>>>(m_.present + g_.rank(), round, late);
      enqueue(row, 1);
      count_absent<<<1, 1, 0, stream_>>>(m_.present, g_.size(), round, device);
      check_cuda(cudaGetLastError(), "checking a barrier");
      synchronize();
      findings one{};
      check_cuda(cudaMemcpy(&one, device, sizeof(one), cudaMemcpyDefault), "findings");
      found.wrong += one.wrong;
      meet();
    }
    return found;
  }

  /// Rank 0's lines for one size.
  void tell(shape const& s, report& out) {
    std::vector<std::vector<double>> slowest;
    double best_peer = 0;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      auto& most = slowest.emplace_back(m_.times[i][0].size(), 0.0);
      for (auto const& one : m_.times[i]) {
        for (std::size_t k = 0; k < most.size(); ++k) { most[k] = std::max(most[k], one[k]); }
      }
      double const us = median(most);
      if (rows_[i].peer && (best_peer == 0 || us < best_peer)) { best_peer = us; }
    }
    bool const shares = s.kind == result::own_sum || s.kind == result::copy_of_all;
    auto const bytes = (shares ? static_cast<std::size_t>(s.ranks) * s.shard : s.out) * sizeof(T);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      double const us = median(slowest[i]);
      double const algbw = static_cast<double>(bytes) / us / 1e3;
      double const busbw = algbw * bus_factor(s.kind, s.ranks);
      out.add({.bytes = bytes,
               .provider = rows_[i].provider,
               .us = us,
               .p99 = percentile(slowest[i], 0.99),
               .algbw = algbw,
               .busbw = busbw,
               .share = busbw / o_.link,
               .checked = o_.check,
               .wrong = o_.check ? wrong(i, s) : 0,
               .ratio = best_peer == 0 ? 0 : us / best_peer});
    }
  }

  /// Elements that were wrong on any rank, and one for each rank whose bits are not rank 0's.
  unsigned long long wrong(std::size_t i, shape const& s) const {
    unsigned long long sum = 0;
    bool const same = s.kind == result::sum || s.kind == result::copy_of_root ||
                      (s.kind == result::copy_of_all && !Collective::rooted);
    for (auto const& one : m_.found[i]) {
      sum += one.wrong + (same && one.bits != m_.found[i][0].bits ? 1 : 0);
    }
    return sum;
  }

  tpx::group& g_;
  options const& o_;
  meeting& m_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::optional<device_memory> memory_[2];
  std::optional<device_memory> found_;
  std::optional<device_memory> residual_;
  std::vector<row> rows_;
  unsigned round_ = 0;
};

}  // namespace bench
