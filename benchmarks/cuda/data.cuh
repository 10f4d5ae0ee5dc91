// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/number.hpp>

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace bench {

inline void check_cuda(cudaError_t status, char const* what) {
  if (status != cudaSuccess) {
    throw tpx::error{tpx::errc::cuda, std::string{what} + ": " + cudaGetErrorString(status)};
  }
}

/// What a rank's output is made of.
enum class result { nothing, sum, own_sum, copy_of_root, copy_of_all };

/// One rank's part of one collective call, in elements.
struct shape {
  result kind = result::nothing;
  int ranks = 1;
  int rank = 0;
  int root = 0;
  std::size_t in = 0;
  std::size_t out = 0;
  std::size_t shard = 0;  // one rank's share, where there are shares
  bool residual = false;  // sums have residual_value() as one term more

  /// Where this rank's input or output lies within the other one when they are the same memory.
  [[nodiscard]] std::size_t in_within_out() const {
    return kind == result::copy_of_all ? own() : 0;
  }
  [[nodiscard]] std::size_t out_within_in() const { return kind == result::own_sum ? own() : 0; }
  [[nodiscard]] TPX_HD bool sums() const { return kind == result::sum || kind == result::own_sum; }
  [[nodiscard]] bool reads() const { return kind != result::copy_of_root || rank == root; }

 private:
  [[nodiscard]] std::size_t own() const { return static_cast<std::size_t>(rank) * shard; }
};

/// Element i of a rank's input. Every type holds these values exactly: floating ones are odd
/// multiples of 1/64 below 4, with 8 significant bits, so that sums of 16-bit types must round.
template <class T>
TPX_HD T value(unsigned round, int rank, std::size_t i) {
  auto h = static_cast<unsigned>(i) * 2654435761u ^ static_cast<unsigned>(i >> 32) ^
           (static_cast<unsigned>(rank) + 32u * round) * 0x9e3779b9u;
  h ^= h >> 15;
  h *= 0x2c1b3c6du;
  h ^= h >> 12;
  int const x = static_cast<int>(h & 255u);
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(x - 128);
  } else {
    return static_cast<T>(static_cast<float>(2 * x - 255) / 64.0f);
  }
}

/// Element i of the residual, the same on every rank.
template <class T>
TPX_HD T residual_value(std::size_t i) {
  return value<T>(0, tpx::max_ranks, i);
}

template <class T>
TPX_HD double as_double(T x) {
  if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<double>(x);
  } else {
    return static_cast<double>(static_cast<float>(x));
  }
}

/// Half a unit in the last place of 1.
template <class T>
inline constexpr double roundoff = std::is_integral_v<T>             ? 0.0
                                   : std::is_same_v<T, double>       ? 0x1p-53
                                   : std::is_same_v<T, float>        ? 0x1p-24
                                   : std::is_same_v<T, tpx::float16> ? 0x1p-11
                                                                     : 0x1p-8 / 2;

/// Whether element i of the output is right: copies exactly, sums within a rounding for every
/// addition of the sum in fp64, integers modulo their size.
template <class T>
TPX_HD bool right(shape const& s, unsigned round, std::size_t i, T got) {
  if (!s.sums()) {
    bool const all = s.kind == result::copy_of_all;
    auto const source = all ? static_cast<int>(i / s.shard) : s.root;
    return as_double(got) == as_double(value<T>(round, source, all ? i % s.shard : i));
  }
  auto const at = s.kind == result::own_sum ? static_cast<std::size_t>(s.rank) * s.shard + i : i;
  double sum = 0;
  double magnitude = 0;
  for (int r = 0; r < s.ranks + (s.residual ? 1 : 0); ++r) {
    double const x = as_double(r < s.ranks ? value<T>(round, r, at) : residual_value<T>(at));
    sum += x;
    magnitude += x < 0 ? -x : x;
  }
  if constexpr (std::is_integral_v<T>) {
    return got == static_cast<T>(static_cast<long long>(sum));
  } else {
    double const off = as_double(got) - sum;
    return (off < 0 ? -off : off) <= (s.ranks + 1) * roundoff<T> * magnitude;
  }
}

struct findings {
  unsigned long long wrong;  // elements
  unsigned long long bits;   // a sum over all elements' bits and places
};

template <class T>
__global__ void fill(T* x, std::size_t n, unsigned round, int rank) {
  std::size_t const step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    x[i] = value<T>(round, rank, i);
  }
}

template <class T>
__global__ void inspect(T const* x, shape s, unsigned round, findings* found) {
  unsigned long long wrong = 0;
  unsigned long long bits = 0;
  std::size_t const step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < s.out; i += step) {
    unsigned long long word = 0;
    memcpy(&word, x + i, sizeof(T));
    bits += (word ^ i * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
    wrong += right(s, round, i, x[i]) ? 0 : 1;
  }
  if (wrong != 0) { atomicAdd(&found->wrong, wrong); }
  atomicAdd(&found->bits, bits);
}

/// Device memory for one rank's input and output, with a margin around each that must stay as it
/// was. The same pointers serve every size.
class arrays {
 public:
  static constexpr std::size_t margin = 512;
  static constexpr int poison = 0xff;  // a NaN of every floating type

  arrays(void* in, void* out, std::size_t bytes) : in_{in}, out_{out}, bytes_{bytes} {}

  /// Bytes that `in` and `out` must have for messages of up to `most`.
  [[nodiscard]] static std::size_t needed(std::size_t most, std::size_t offset) {
    return most + offset * 16 + 2 * margin;
  }

  template <class T>
  void place(shape const& s, std::size_t offset, bool in_place) {
    auto* const out = first<T>(out_, offset);
    x_ = in_place ? out + s.in_within_out() : first<T>(in_, offset);
    y_ = out + (in_place ? s.out_within_in() : 0);
    whole_ = out;
    whole_bytes_ = (in_place ? std::max(s.in, s.out) : s.out) * sizeof(T);
    tpx::expects(reinterpret_cast<std::byte*>(whole_) + whole_bytes_ + margin <=
                   static_cast<std::byte*>(out_) + bytes_,
                 "the arrays are too small");
  }

  /// Poisons the output and its margins, then writes the input.
  template <class T>
  void prepare(shape const& s, unsigned round, cudaStream_t stream) const {
    check_cuda(cudaMemsetAsync(out_, poison, bytes_, stream), "poisoning the output");
    if (s.in > 0 && s.reads()) {
      fill<<<512, 256, 0, stream>>>(x<T>(), s.in, round, s.rank);
      check_cuda(cudaGetLastError(), "filling the input");
    }
    check_cuda(cudaStreamSynchronize(stream), "filling the input");
  }

  /// Counts what is wrong: every element on the GPU, a sample that has the head and the tail on
  /// the host too, and the margins.
  template <class T>
  [[nodiscard]] findings examine(shape const& s, unsigned round, cudaStream_t stream,
                                 findings* device) const {
    findings found{};
    if (s.out > 0) {
      check_cuda(cudaMemsetAsync(device, 0, sizeof(findings), stream), "clearing the findings");
      inspect<<<512, 256, 0, stream>>>(y<T>(), s, round, device);
      check_cuda(cudaGetLastError(), "inspecting the output");
      check_cuda(cudaMemcpyAsync(&found, device, sizeof(findings), cudaMemcpyDefault, stream),
                 "findings");
      check_cuda(cudaStreamSynchronize(stream), "inspecting the output");
    }
    constexpr std::size_t piece = 256;
    std::size_t const pieces = std::clamp<std::size_t>(s.out / piece, 1, 32);
    std::vector<T> sample(std::min(piece, s.out));
    for (std::size_t p = 0; p < pieces && !sample.empty(); ++p) {
      std::size_t const most = s.out - sample.size();
      std::size_t const at = pieces == 1 ? most : most * p / (pieces - 1);
      fetch(sample.data(), y<T>() + at, sample.size() * sizeof(T), stream);
      for (std::size_t i = 0; i < sample.size(); ++i) {
        found.wrong += right(s, round, at + i, sample[i]) ? 0 : 1;
      }
    }
    unsigned char around[2][margin];
    auto* const end = static_cast<std::byte*>(whole_) + whole_bytes_;
    auto* const begin = static_cast<std::byte*>(out_);
    auto const before = std::min<std::size_t>(margin, static_cast<std::byte*>(whole_) - begin);
    fetch(around[0], static_cast<std::byte*>(whole_) - before, before, stream);
    fetch(around[1], end, margin, stream);
    for (std::size_t i = 0; i < before; ++i) { found.wrong += around[0][i] != poison; }
    for (std::size_t i = 0; i < margin; ++i) { found.wrong += around[1][i] != poison; }
    return found;
  }

  template <class T>
  [[nodiscard]] T* x() const {
    return static_cast<T*>(x_);
  }
  template <class T>
  [[nodiscard]] T* y() const {
    return static_cast<T*>(y_);
  }

 private:
  template <class T>
  static T* first(void* memory, std::size_t offset) {
    return reinterpret_cast<T*>(static_cast<std::byte*>(memory) + margin) + offset;
  }

  static void fetch(void* to, void const* from, std::size_t bytes, cudaStream_t stream) {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream),
               "reading a sample");
    check_cuda(cudaStreamSynchronize(stream), "reading a sample");
  }

  void* in_;
  void* out_;
  std::size_t bytes_;
  void* x_ = nullptr;
  void* y_ = nullptr;
  void* whole_ = nullptr;
  std::size_t whole_bytes_ = 0;
};

}  // namespace bench
