// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/communicator.hpp>
#include <tpx/run_ranks.hpp>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

/// What tests of collectives share. Catch2's assertions belong to the main thread, so ranks note
/// what they find, and the test requires that nothing was noted.
namespace world {

using namespace tpx;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

/// What is tested: every transport with every topology. Under sanitizers, whose builds are slow,
/// each transport and each topology.
using communicators = std::conditional_t<
  sanitized,
  std::tuple<communicator<HostPinned, Ring, Cpu>, communicator<HostPinned, Auto, Cpu>,
             communicator<PeerDirect, Tree, Cpu>, communicator<PeerDirect, AllPairs, Cpu>>,
  std::tuple<communicator<HostPinned, Ring, Cpu>, communicator<HostPinned, Tree, Cpu>,
             communicator<HostPinned, AllPairs, Cpu>, communicator<PeerDirect, Ring, Cpu>,
             communicator<PeerDirect, Tree, Cpu>, communicator<PeerDirect, AllPairs, Cpu>,
             communicator<Auto, Auto, Cpu>>>;

class notes {
 public:
  void add(std::string note) {
    std::lock_guard const lock{mutex_};
    if (all_.size() < 1000) { all_ += note + '\n'; }
  }
  /// "" if nothing was noted.
  [[nodiscard]] std::string const& all() const { return all_; }

 private:
  std::mutex mutex_;
  std::string all_;
};

/// Runs body(group) on n thread ranks.
template <class F>
void on_ranks(int n, F body, std::chrono::milliseconds deadline = std::chrono::seconds{60}) {
  detail::run_threads(n, body, {.deadline = deadline});
}

/// Element i of rank `rank` in case `salt`: any value for integers, mixed signs and sizes for the
/// rest. The same for everybody, so that whoever needs another rank's input makes it.
template <class T>
T value(int rank, std::size_t i, unsigned salt) {
  std::uint64_t h = (static_cast<std::uint64_t>(rank) << 32 | salt) * 0x9e3779b97f4a7c15u + i;
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  h ^= h >> 31;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(h);
  } else {
    double const unit = static_cast<double>(h >> 11) * 0x1p-53 - 0.5;
    return static_cast<T>(static_cast<accumulate_t<T>>(unit * (h % 7 == 0 ? 1000.0 : 2.0)));
  }
}

template <class T>
double as_double(T v) {
  return static_cast<double>(static_cast<accumulate_t<T>>(v));
}

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// How far a sum of n values, of which `size` is the sum of magnitudes, may lie from the exact one:
/// n roundings of the accumulator and one of the type.
template <class T>
double tolerance(double exact, double size, int n) {
  using A = accumulate_t<T>;
  double const step = std::is_same_v<A, double> ? 0x1p-52 : 0x1p-23;
  double const last = std::is_same_v<T, bfloat16>  ? 0x1p-8
                      : std::is_same_v<T, float16> ? 0x1p-11
                                                   : step;
  double const tiny = std::is_same_v<T, float16> ? 0x1p-24 : 0x1p-126;
  return size * step * n + std::abs(exact) * last + tiny;
}

/// An array of n elements at a chosen offset from a 64-byte border, with guards on both sides and
/// filled with a poison that no result is.
template <class T>
class guarded {
 public:
  guarded(std::size_t n, std::size_t offset) : n_{n}, memory_(n + offset + 2 * guard + 64) {
    auto const at = reinterpret_cast<std::uintptr_t>(memory_.data()) % 64 / sizeof(T);
    begin_ = (at == 0 ? 0 : 64 / sizeof(T) - at) + guard + offset;
    std::memset(static_cast<void*>(memory_.data()), 0xa5, memory_.size() * sizeof(T));
  }
  [[nodiscard]] std::span<T> span() { return {memory_.data() + begin_, n_}; }
  [[nodiscard]] bool intact() const {
    T poison;
    std::memset(static_cast<void*>(&poison), 0xa5, sizeof(T));
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      bool const ours = i >= begin_ && i < begin_ + n_;
      if (!ours && !same_bits(memory_[i], poison)) { return false; }
    }
    return true;
  }

 private:
  static constexpr std::size_t guard = 64;
  std::size_t n_;
  std::vector<T> memory_;
  std::size_t begin_;
};

/// Calls f for each element type that collectives promise to move.
template <class F>
void for_types(F&& f) {
  f(float{});
  f(float16{});
  f(bfloat16{});
  f(double{});
  f(std::int32_t{});
  f(std::int8_t{});
}

inline std::vector<std::size_t> sizes() {
  if (sanitized) { return {0, 1, 2, 7, 8, 127, 1000, 4099}; }
  return {0, 1, 2, 7, 8, 127, 1000, 65537};
}

/// Slots of 1 KiB for even worlds, so that messages are cut; the default for odd ones.
inline communicator_options options(int n) {
  return n % 2 == 0 ? communicator_options{.max_bytes = 1024} : communicator_options{};
}

}  // namespace world
