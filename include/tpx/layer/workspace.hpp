// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string>

namespace tpx {

/// Memory for what lives within one step, allocated once: frames take from it and give back, the
/// last first. Arrays begin at multiples of 64 bytes.
class workspace {
 public:
  /// What `floats` floats take of a workspace.
  [[nodiscard]] static constexpr std::size_t rounded(std::size_t floats) {
    return (floats + alignment / sizeof(float) - 1) / (alignment / sizeof(float)) *
           (alignment / sizeof(float));
  }

  explicit workspace(std::size_t floats)
      : size_{rounded(floats)},
        data_{static_cast<float*>(
          ::operator new (size_ * sizeof(float), std::align_val_t{alignment}))} {}

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// What is taken through a frame is free again when the frame ends.
  class frame {
   public:
    explicit frame(workspace& from) : from_{from}, begin_{from.used_} {}
    frame(frame&&) = delete;
    ~frame() { from_.used_ = begin_; }

    /// Uninitialized floats. Errors: out_of_memory.
    [[nodiscard]] std::span<float> take(std::size_t floats) {
      std::size_t const left = from_.size_ - from_.used_;
      if (floats > left) {
        throw error{errc::out_of_memory,
                    "a workspace of " + std::to_string(from_.size_) + " floats has " +
                      std::to_string(left) + " left where " + std::to_string(floats) +
                      " are needed",
                    {.remedy = "size it by the layers' floats_needed(), for the most tokens"}};
      }
      float* const first = from_.data_.get() + from_.used_;
      from_.used_ += rounded(floats) < left ? rounded(floats) : left;
      return {first, floats};
    }

   private:
    workspace& from_;
    std::size_t begin_;
  };

 private:
  static constexpr std::size_t alignment = 64;
  struct release {
    void operator()(float* p) const { ::operator delete (p, std::align_val_t{alignment}); }
  };

  std::size_t size_;
  std::size_t used_ = 0;
  std::unique_ptr<float, release> data_;
};

}  // namespace tpx
