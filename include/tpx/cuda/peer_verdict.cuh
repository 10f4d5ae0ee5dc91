// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/peer_windows.cuh>

#include <cuda/atomic>

#include <charconv>
#include <cstdlib>

namespace tpx {

[[nodiscard]] constexpr std::string_view name(p2p_verdict v) {
  constexpr std::string_view names[]{"good",   "no access",  "no handles", "not mapped",
                                     "vetoed", "wrong read", "lost write"};
  return names[static_cast<std::uint8_t>(v)];
}

/// What peer access between the GPUs of a group is worth: the same on every rank.
struct p2p_matrix {
  int ranks = 0;
  std::array<std::array<p2p_verdict, max_ranks>, max_ranks> pair{};  // [from][to]

  [[nodiscard]] bool all_good() const { return bad().first < 0; }

  /// The first ordered pair of ranks that is not good; -1, -1 if all are.
  [[nodiscard]] std::pair<int, int> bad() const {
    for (int from = 0; from < ranks; ++from) {
      for (int to = 0; to < ranks; ++to) {
        if (of(from, to) != p2p_verdict::good) { return {from, to}; }
      }
    }
    return {-1, -1};
  }

  [[nodiscard]] p2p_verdict of(int from, int to) const {
    return pair[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
  }

  /// What is wrong between the first bad pair, for people.
  [[nodiscard]] std::string story() const {
    auto const [from, to] = bad();
    if (from < 0) { return "the GPUs of all ranks reach each other's memory"; }
    constexpr std::string_view why[]{
      "",
      "their GPUs have no peer access to each other",
      "GPU memory cannot be handed from process to process on this machine",
      "the CUDA driver refuses to map it",
      "TPX_P2P_DISABLE or TPX_P2P_VETO forbids it",
      "a test pattern came back wrong, though CUDA reports peer access",
      "a test pattern that was stored there did not arrive, though CUDA reports peer access"};
    return "the GPU of rank " + std::to_string(from) + " does not reach the memory of rank " +
           std::to_string(to) + ": " + std::string{why[static_cast<std::uint8_t>(of(from, to))]};
  }
};

namespace detail {

/// The pairs that `list`, "0-1,2-3", names by rank. Ranks that the group does not have are allowed,
/// so that one list serves groups of any size.
[[nodiscard]] inline p2p_vetoes parse_vetoes(std::string_view list) {
  p2p_vetoes vetoes;
  std::string_view rest = list;
  while (!rest.empty()) {
    auto const end = std::min(rest.find(','), rest.size());
    std::string_view const item = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    int rank[2]{-1, -1};
    auto const* const last = item.data() + item.size();
    auto const a = std::from_chars(item.data(), last, rank[0]);
    bool const dash = a.ec == std::errc{} && a.ptr != last && *a.ptr == '-';
    auto const b = std::from_chars(dash ? a.ptr + 1 : last, last, rank[1]);
    bool const fine = dash && b.ec == std::errc{} && b.ptr == last && rank[0] != rank[1] &&
                      rank[0] >= 0 && rank[0] < max_ranks && rank[1] >= 0 && rank[1] < max_ranks;
    expects(
      fine,
      [&] {
        return "TPX_P2P_VETO=\"" + std::string{list} + "\": \"" + std::string{item} +
               "\" is not a pair of ranks";
      },
      "write pairs of different ranks, 0 to 15, as in 0-1,2-3");
    vetoes.add(rank[0], rank[1]);
  }
  return vetoes;
}

/// What the environments of all ranks forbid together.
[[nodiscard]] inline p2p_vetoes vetoes_of(group& g) {
  p2p_vetoes vetoes;
  g.guarded("reading the environment", [&] {
    char const* const list = std::getenv("TPX_P2P_VETO");
    vetoes = parse_vetoes(list == nullptr ? "" : list);
    if (switched_on("TPX_P2P_DISABLE")) { vetoes.bits = {~std::uint64_t{0}, ~std::uint64_t{0}}; }
  });
  call_signature const call{collective::agree, dtype::uint64, type_code<p2p_vetoes>()};
  for (auto& bits : vetoes.bits) {
    for (auto const theirs : g.exchange(bits, call)) { bits |= theirs; }
  }
  return vetoes;
}

/// What the kernels below try out: the margins of all ranks as this one addresses them, null where
/// it must not. Slot q of each is written by rank q.
struct p2p_trial {
  std::byte* margin[max_ranks];
  int ranks;
  int rank;
  std::uint64_t nonce;

  static constexpr unsigned words = peer_windows::slot_bytes / sizeof(std::uint64_t);
  using word_ref = cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>;

  /// Never what was there before: `nonce` is new each time.
  [[nodiscard]] TPX_HD std::uint64_t pattern(int from, int to, unsigned i) const {
    std::uint64_t h = nonce + (static_cast<std::uint64_t>(from) << 40) +
                      (static_cast<std::uint64_t>(to) << 32) + i + 1;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
  }
  [[nodiscard]] TPX_HD word_ref word(int window, int writer, unsigned i) const {
    return word_ref{*(reinterpret_cast<std::uint64_t*>(margin[window]) +
                      static_cast<std::size_t>(writer) * words + i)};
  }
  /// In this rank's own margin: by peer, wrong words of its write, then wrong words of our reads.
  [[nodiscard]] TPX_HD std::uint64_t* results() const {
    return reinterpret_cast<std::uint64_t*>(margin[rank] + static_cast<std::size_t>(ranks) *
                                                             peer_windows::slot_bytes);
  }
};

/// Block p stores this rank's patterns into rank p's memory. A template, as kernels in headers are.
template <class Trial>
__global__ void p2p_store(__grid_constant__ Trial const t) {
  int const peer = static_cast<int>(blockIdx.x);
  if (t.margin[peer] == nullptr) { return; }
  for (unsigned i = threadIdx.x; i < p2p_trial::words; i += blockDim.x) {
    t.word(peer, t.rank, i).store(t.pattern(t.rank, peer, i), cuda::memory_order_relaxed);
  }
}

/// Block p looks at what rank p stored here, and at what rank p and this one stored there.
template <class Trial>
__global__ void p2p_load(__grid_constant__ Trial const t) {
  int const peer = static_cast<int>(blockIdx.x);
  bool arrived = true;
  bool read = true;
  for (unsigned i = threadIdx.x; i < p2p_trial::words; i += blockDim.x) {
    auto const here = t.word(t.rank, peer, i).load(cuda::memory_order_relaxed);
    arrived = arrived && here == t.pattern(peer, t.rank, i);
    if (t.margin[peer] == nullptr) { continue; }
    auto const theirs = t.word(peer, peer, i).load(cuda::memory_order_relaxed);
    auto const ours = t.word(peer, t.rank, i).load(cuda::memory_order_relaxed);
    read = read && theirs == t.pattern(peer, peer, i) && ours == t.pattern(t.rank, peer, i);
  }
  bool const all_arrived = __syncthreads_and(static_cast<int>(arrived)) != 0;
  bool const all_read = __syncthreads_and(static_cast<int>(read)) != 0;
  if (threadIdx.x == 0) {
    t.results()[peer] = all_arrived ? 0 : 1;
    t.results()[max_ranks + peer] = all_read ? 0 : 1;
  }
}

/// Tries every ordered pair: all ranks store a pattern into every window they reach, and look at
/// what arrived in theirs and at what they read from the others'. No kernel waits for another.
/// Errors: timeout on every rank if a GPU does not finish within half the group's deadline.
[[nodiscard]] inline p2p_matrix try_out(group& g, peer_windows& windows) {
  call_signature const call{collective::agree, dtype::uint64, type_code<p2p_matrix>()};
  p2p_trial trial{};
  trial.ranks = g.size();
  trial.rank = g.rank();
  trial.nonce = g.exchange(now_ns(), call)[0] << 8;
  for (int r = 0; r < g.size(); ++r) { trial.margin[r] = windows.margin(r); }
  auto const blocks = static_cast<unsigned>(g.size());
  auto const run = [&](auto kernel, cudaStream_t stream) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3{blocks};
    config.blockDim = dim3{256};
    config.stream = stream;
    cuda_check(cudaLaunchKernelEx(&config, kernel, trial), "trying out peer access");
  };
  auto const finish = [&](private_stream const& stream) {
    // Half the deadline, so that this is what the ranks that wait for this one hear.
    auto const limit = static_cast<std::uint64_t>(g.me().deadline.count()) / 2;
    if (stream.finish(now_ns() + limit, "trying out peer access")) { return; }
    windows.abandon();
    throw error{errc::timeout,
                "device " + std::to_string(windows.gpus().device) +
                  " did not finish storing to its peers and loading from them",
                {.rank = g.rank(),
                 .remedy = "set TPX_P2P_DISABLE=1, or look for a fault of its "
                           "link in nvidia-smi and dmesg"}};
  };
  std::uint64_t row = 0;
  g.guarded("trying out peer access", [&] {
    private_stream const stream;
    run(p2p_store<p2p_trial>, stream.get());
    finish(stream);
  });
  g.exchange(0, call);
  g.guarded("trying out peer access", [&] {
    private_stream const stream;
    run(p2p_load<p2p_trial>, stream.get());
    finish(stream);
    std::array<std::uint64_t, 2 * max_ranks> wrong{};
    cuda_check(cudaMemcpyAsync(wrong.data(), trial.results(), sizeof(wrong), cudaMemcpyDeviceToHost,
                               stream.get()),
               "fetching what became of peer access");
    finish(stream);
    for (int r = 0; r < g.size(); ++r) {
      auto const i = static_cast<std::size_t>(r);
      auto verdict = windows.reach(r);
      if (verdict == p2p_verdict::good && wrong[max_ranks + i] != 0) {
        verdict = p2p_verdict::wrong_read;
      }
      // Three bits a peer, then one bit for each whose store arrived.
      row |= static_cast<std::uint64_t>(verdict) << (3 * r);
      row |= std::uint64_t{wrong[i] == 0} << (3 * max_ranks + r);
    }
  });
  auto const rows = g.exchange(row, call);
  p2p_matrix matrix{.ranks = g.size()};
  for (int from = 0; from < g.size(); ++from) {
    for (int to = 0; to < g.size(); ++to) {
      auto& verdict = matrix.pair[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
      auto const said = rows[static_cast<std::size_t>(from)] >> (3 * to) & 7u;
      verdict = static_cast<p2p_verdict>(said);
      bool const arrived = (rows[static_cast<std::size_t>(to)] >> (3 * max_ranks + from) & 1u) != 0;
      if (verdict == p2p_verdict::good && !arrived) { verdict = p2p_verdict::lost_write; }
    }
  }
  return matrix;
}

}  // namespace detail

/// Tries out whether the GPUs of all ranks reach each other's memory: every rank gets the same
/// answer. All ranks call it, each with its GPU current. Milliseconds, and 2 MiB meanwhile.
///
/// TPX_P2P_DISABLE=1 or TPX_P2P_VETO="0-1,2-3" (pairs of ranks) on any rank forbids pairs.
/// Errors: two ranks on one GPU, unless TPX_ALLOW_SHARED_GPU=1; out_of_memory; cuda; timeout.
[[nodiscard]] inline p2p_matrix probe_peers(group& g) {
  auto const vetoes = detail::vetoes_of(g);
  detail::peer_windows windows{g, 0, vetoes};
  return detail::try_out(g, windows);
}

/// Whether PeerDirect works between all ranks: see probe_peers().
[[nodiscard]] inline bool peers_ok(group& g) {
  return probe_peers(g).all_good();
}

}  // namespace tpx
