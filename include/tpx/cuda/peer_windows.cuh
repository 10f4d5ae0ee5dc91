// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/device_memory.cuh>
#include <tpx/cuda/gpus.cuh>

namespace tpx {

/// Whether one rank's GPU reaches the memory of another's, and if not, why.
enum class p2p_verdict : std::uint8_t {
  good,        ///< written and read back
  no_access,   ///< the GPUs have no peer access
  no_handles,  ///< GPU memory cannot be handed to other processes here
  not_mapped,  ///< the driver refused to map it
  vetoed,      ///< by TPX_P2P_DISABLE or TPX_P2P_VETO
  wrong_read,  ///< it reads something else than what is there
  lost_write,  ///< what it wrote did not arrive
};

namespace detail {

/// Pairs of ranks that must not touch each other's memory.
struct p2p_vetoes {
  std::array<std::uint64_t, 2> bits{};  // by index()

  [[nodiscard]] static constexpr unsigned index(int a, int b) {
    auto const low = static_cast<unsigned>(a < b ? a : b);
    auto const high = static_cast<unsigned>(a < b ? b : a);
    return high * (high - 1) / 2 + low;
  }
  void add(int a, int b) { bits[index(a, b) / 64] |= std::uint64_t{1} << (index(a, b) % 64); }
  [[nodiscard]] bool has(int a, int b) const {
    return a != b && (bits[index(a, b) / 64] >> (index(a, b) % 64) & 1u) != 0;
  }
};

/// A window of GPU memory for each rank, mapped by every rank whose GPU can reach it, and zeroed
/// before anybody gets it. Behind the window lies a margin, for trying out whether it works.
class peer_windows {
 public:
  static constexpr std::size_t slot_bytes = 4096;  // of the margin, for each rank
  static constexpr std::size_t results_bytes = 2 * max_ranks * sizeof(std::uint64_t);

  /// Errors: those of gpus_of(); out_of_memory or cuda of any rank, on all. What cannot be reached
  /// is none, but a verdict.
  peer_windows(group& g, std::size_t bytes, p2p_vetoes const& vetoes)
      : gpus_{gpus_of(g)}, rank_{g.rank()}, margin_{(bytes + 255) / 256 * 256} {
    auto const whole = margin_ + static_cast<std::size_t>(g.size()) * slot_bytes + results_bytes;
    std::shared_ptr<device_memory> mine;
    std::uint64_t offer = 0;
    g.guarded("making a window", [&] {
      mine = create(whole, g.processes());
      if (mine) { offer = mine->bytes() / page << max_ranks | allow(*mine, g, vetoes); }
    });
    auto const offers = g.exchange(offer, call(bytes));
    bool mappable = true;
    for (int r = 0; r < g.size(); ++r) { mappable = mappable && offers[at(r)] != 0; }
    if (!mappable && g.processes()) {
      reach_.fill(p2p_verdict::no_handles);
      g.guarded("making a window", [&] {
        mine.reset();
        held_[at(rank_)] = std::make_shared<device_memory>(device_memory::create_plain(whole));
      });
      reach_[at(rank_)] = p2p_verdict::good;
      return;
    }
    g.guarded("making a window", [&] {
      for (int r = 0; r < g.size(); ++r) { reach_[at(r)] = foresee(r, vetoes); }
    });
    auto const make = [&] {
      if (!mappable) {
        mine.reset();
        mine = std::make_shared<device_memory>(device_memory::create_plain(whole));
      }
      return mine;
    };
    auto const open = [&](unique_fd fd, int r) {
      return adopt(std::move(fd), r, offers[at(r)] >> max_ranks, whole);
    };
    held_ =
      g.hand_round<device_memory>(call(bytes), (std::uint32_t{1} << g.size()) - 1, make, open);
    if (g.processes()) { return; }
    for (int r = 0; r < g.size(); ++r) {
      auto& verdict = reach_[at(r)];
      if (verdict != p2p_verdict::good) { continue; }
      bool const granted = mappable ? (offers[at(r)] >> rank_ & 1u) != 0 : enable(r);
      if (!granted) { verdict = p2p_verdict::not_mapped; }
    }
  }

  [[nodiscard]] group_gpus const& gpus() const noexcept { return gpus_; }

  /// Of this rank's GPU and rank r's memory, as far as can be told without trying.
  [[nodiscard]] p2p_verdict reach(int r) const noexcept { return reach_[at(r)]; }

  /// The window of rank r as this rank addresses it; null where the verdict is not good.
  [[nodiscard]] std::byte* window(int r) const noexcept {
    return reach(r) == p2p_verdict::good ? held_[at(r)]->data() : nullptr;
  }
  [[nodiscard]] std::byte* margin(int r) const noexcept {
    auto* const begin = window(r);
    return begin == nullptr ? nullptr : begin + margin_;
  }

  /// Keeps the memory for as long as the process: a kernel that does not end may be using it, and
  /// freeing memory waits for kernels.
  void abandon() { static_cast<void>(new auto(held_)); }

 private:
  static constexpr std::size_t page = 4096;
  static std::size_t at(int r) { return static_cast<std::size_t>(r); }

  [[nodiscard]] static call_signature call(std::size_t bytes) {
    return {collective::share, dtype::uint64, type_code<peer_windows>(), 0, (bytes + 7) / 8};
  }

  /// Null where the device has no such memory.
  [[nodiscard]] static std::shared_ptr<device_memory> create(std::size_t bytes, bool exported) {
    if (!device_memory::supported(exported)) { return nullptr; }
    try {
      return std::make_shared<device_memory>(device_memory::create(bytes, exported));
    } catch (error const& e) {
      if (e.code() != errc::unsupported) { throw; }
      log(log_level::warn, -1, [&] { return std::string{"GPU memory: "} + e.what(); });
      return nullptr;
    }
  }

  /// Lets the GPUs of all ranks of this process reach `mine`; bit r: rank r's does.
  [[nodiscard]] std::uint64_t allow(device_memory const& mine, group const& g,
                                    p2p_vetoes const& vetoes) const {
    auto const self = std::uint64_t{1} << rank_;
    if (g.processes()) { return self; }
    std::array<int, max_ranks> devices{};
    std::array<bool, max_ranks> granted{};
    std::size_t count = 0;
    for (int r = 0; r < g.size(); ++r) {
      int const d = gpus_.in_process[at(r)];
      bool wanted =
        d >= 0 && d != gpus_.device && !vetoes.has(rank_, r) && can_access(d, gpus_.device);
      for (std::size_t i = 0; i < count; ++i) { wanted = wanted && devices[i] != d; }
      if (wanted) { devices[count++] = d; }
    }
    bool const together = count == 0 || mine.allow({devices.data(), count});
    for (std::size_t i = 0; i < count; ++i) {
      granted[i] = together || mine.allow({&devices[i], 1});
    }
    std::uint64_t all = self;
    for (int r = 0; r < g.size(); ++r) {
      bool reached = gpus_.same(r, rank_);
      for (std::size_t i = 0; i < count; ++i) {
        reached = reached || (granted[i] && devices[i] == gpus_.in_process[at(r)]);
      }
      all |= std::uint64_t{reached} << r;
    }
    return all;
  }

  [[nodiscard]] static bool can_access(int from, int to) {
    int can = 0;
    cuda_check(cudaDeviceCanAccessPeer(&can, from, to), "asking for peer access");
    return can != 0;
  }

  /// A GPU that this process does not see can be reached all the same: only trying tells.
  [[nodiscard]] p2p_verdict foresee(int r, p2p_vetoes const& vetoes) const {
    if (vetoes.has(rank_, r)) { return p2p_verdict::vetoed; }
    int const peer = gpus_.in_process[at(r)];
    bool const can = gpus_.same(r, rank_) || peer < 0 || can_access(gpus_.device, peer);
    return can ? p2p_verdict::good : p2p_verdict::no_access;
  }

  /// Another process's window; null where the driver will not have it.
  [[nodiscard]] std::shared_ptr<device_memory> adopt(unique_fd fd, int r, std::uint64_t pages,
                                                     std::size_t least) {
    if (reach_[at(r)] != p2p_verdict::good) { return nullptr; }
    std::uint64_t const bytes = pages * page;
    if (bytes < least || bytes - least > std::size_t{1} << 30) {
      throw error{errc::mismatch,
                  "the window of rank " + std::to_string(r) + " has " + std::to_string(bytes) +
                    " bytes where " + std::to_string(least) + " are needed",
                  {.peer = r}};
    }
    try {
      return std::make_shared<device_memory>(device_memory::open(std::move(fd), bytes));
    } catch (error const& e) {
      if (e.code() == errc::out_of_memory) { throw; }
      log(log_level::warn, rank_, [&] { return std::string{"GPU memory: "} + e.what(); });
      reach_[at(r)] = p2p_verdict::not_mapped;
      return nullptr;
    }
  }

  /// Peer access for all memory of rank r's device, where single allocations cannot have it.
  [[nodiscard]] bool enable(int r) const {
    if (gpus_.same(r, rank_)) { return true; }
    auto const status = cudaDeviceEnablePeerAccess(gpus_.in_process[at(r)], 0);
    if (status != cudaSuccess) { static_cast<void>(cudaGetLastError()); }
    return status == cudaSuccess || status == cudaErrorPeerAccessAlreadyEnabled;
  }

  group_gpus gpus_;
  int rank_;
  std::size_t margin_;
  std::array<p2p_verdict, max_ranks> reach_{};
  std::array<std::shared_ptr<device_memory>, max_ranks> held_;
};

}  // namespace detail
}  // namespace tpx
