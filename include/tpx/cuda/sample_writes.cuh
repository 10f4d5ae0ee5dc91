// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_memory.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tpx::detail {

/// Where words of a list of them go to.
struct sample_write {
  std::uint32_t* to;
  std::uint32_t from;
  std::uint32_t words;
};

/// A block a write.
template <class Write>
__global__ void __launch_bounds__(256) put_words(Write const* writes, std::uint32_t const* words) {
  Write const w = writes[blockIdx.x];
  std::uint32_t const* const from = words + w.from;
#pragma unroll 4
  for (std::uint32_t i = threadIdx.x; i < w.words; i += blockDim.x) { w.to[i] = from[i]; }
}

/// Small writes to device memory, gathered in page-locked memory that one kernel reads.
class sample_writes {
 public:
  explicit sample_writes(std::size_t words)
      : room_{std::max(words, std::size_t{64} * piece)},
        words_{make_pinned_array<std::uint32_t>(room_)},
        writes_{make_pinned_array<sample_write>(most_writes)} {}

  /// `from` is the caller's again at once. Waits for the stream where there is no room left.
  template <class T>
  void write(T* to, std::span<T const> from, cudaStream_t stream) {
    static_assert(sizeof(T) % sizeof(std::uint32_t) == 0);
    constexpr std::size_t at_once = piece * sizeof(std::uint32_t) / sizeof(T);
    for (; !from.empty(); to += std::min(from.size(), at_once)) {
      auto const some = from.first(std::min(from.size(), at_once));
      auto const n = some.size_bytes() / sizeof(std::uint32_t);
      if (used_ + n > room_ || count_ == most_writes) {
        send(stream);
        cuda_check(cudaStreamSynchronize(stream), "writing for a sampler");
        sent();
      }
      std::memcpy(words_.get() + used_, some.data(), some.size_bytes());
      writes_[count_++] = {reinterpret_cast<std::uint32_t*>(to), static_cast<std::uint32_t>(used_),
                           static_cast<std::uint32_t>(n)};
      used_ += n;
      from = from.subspan(some.size());
    }
  }

  /// What was written is there for whatever follows in the stream.
  void send(cudaStream_t stream) {
    if (count_ == begun_) { return; }
    put_words<<<static_cast<unsigned>(count_ - begun_), 256, 0, stream>>>(writes_.get() + begun_,
                                                                          words_.get());
    cuda_check(cudaGetLastError(), "writing for a sampler");
    begun_ = count_;
  }
  /// The stream has come by.
  void sent() { used_ = count_ = begun_ = 0; }

 private:
  static constexpr std::size_t piece = 4096;  // words of a write at most
  static constexpr std::size_t most_writes = 4096;

  std::size_t room_;
  pinned_array<std::uint32_t> words_;
  pinned_array<sample_write> writes_;
  std::size_t used_ = 0;   // words
  std::size_t count_ = 0;  // writes
  std::size_t begun_ = 0;  // of these, sent
};

}  // namespace tpx::detail
