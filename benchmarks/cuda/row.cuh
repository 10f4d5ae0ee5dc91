// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "data.cuh"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace bench {

/// One rank's side of one call.
struct call {
  void const* x = nullptr;
  void* y = nullptr;
  shape s{};
  cudaStream_t stream = nullptr;

  template <class T>
  [[nodiscard]] std::span<T const> in() const {
    return {static_cast<T const*>(x), s.in};
  }
  template <class T>
  [[nodiscard]] std::span<T> out() const {
    return {static_cast<T*>(y), s.out};
  }
};

/// A way to carry out the collective, as one rank has it: a row of the table.
struct row {
  std::string provider;
  bool peer = false;  // what tpx is compared with
  std::shared_ptr<arrays> memory;
  std::function<void(call const&)> enqueue = {};
  /// Throws what went wrong on the device. After the stream was synchronised.
  std::function<void()> settle = [] {};
  bool residual = false;  // adds one
  bool solo = false;      // rank 0 enqueues for every rank, with:
  std::function<void(std::vector<call> const& ranks, int ops)> enqueue_all = {};
};

}  // namespace bench
