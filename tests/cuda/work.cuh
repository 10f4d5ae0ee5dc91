// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "gpus.cuh"

namespace gpus {

/// One rank's arrays for all-reduces that make their data and check their sums on the GPU.
class worker {
 public:
  static constexpr std::size_t most = std::size_t{1} << 20;

  explicit worker(cudaStream_t stream)
      : stream_{stream},
        memory_{std::size_t{16} << 20},
        count_{memory_, stream},
        in_{memory_.array<float>(most)},
        out_{memory_.array<float>(most)} {
    // Once before any wait has a deadline: what a first launch loads.
    fill(in_.first(1), 0, {}, stream);
    check(in_.first(1), 0, 1, {}, count_.wrong(), stream);
    sync(stream);
  }

  [[nodiscard]] std::span<float> in() const { return in_; }
  [[nodiscard]] std::span<float> out() const { return out_; }
  [[nodiscard]] unsigned long long wrong() const { return count_.read(stream_); }

  /// One all-reduce of n floats with its data and its check.
  template <class Comm>
  void reduce(Comm& comm, std::size_t n, std::uint64_t salt) const {
    fill(in_.first(n), comm.rank(), {.k = salt}, stream_);
    allreduce(comm, in_.first(n), out_.first(n), Sum{}, stream_);
    check(out_.first(n), 0, comm.size(), {.k = salt}, count_.wrong(), stream_);
  }

  /// As many as that, of up to 4,096 floats and now and then more. Returns once they are done.
  template <class Comm>
  void reduce_many(Comm& comm, int times) const {
    for (int i = 0; i < times; ++i) {
      auto const k = static_cast<std::size_t>(i);
      reduce(comm, i % 50 == 49 ? 200'003 : 1 + k * 37 % 4096, 1'000'000 + k);
      if (i % 50 == 49) { sync(stream_); }
    }
    settle(comm, stream_);
  }

  /// "" if the device still does what it is told: allocates, runs a kernel, copies.
  [[nodiscard]] std::string context() const {
    try {
      arena extra{4096};
      auto const x = extra.array<float>(100);
      unsigned long long const before = wrong();
      fill(x, 3, {.k = 5}, stream_);
      check(x, 3, 4, {.k = 5}, count_.wrong(), stream_);
      return wrong() == before ? "" : "a kernel computed something else";
    } catch (error const& e) { return e.what(); }
  }

 private:
  cudaStream_t stream_;
  arena memory_;
  counters count_;
  std::span<float> in_;
  std::span<float> out_;
};

}  // namespace gpus
