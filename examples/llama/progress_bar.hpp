// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <unistd.h>

namespace llama {

/// A bar on standard error while something large loads: where that is a terminal, and not before
/// half a second has passed.
class progress_bar {
 public:
  explicit progress_bar(std::size_t bytes) : megabytes_{static_cast<double>(bytes) * 1e-6} {}
  progress_bar(progress_bar&&) = delete;
  ~progress_bar() {
    if (shown_ >= 0) { std::fputs("\r\x1b[K", stderr); }
  }

  /// `part` of it is done, from 0 to 1.
  void show(double part) {
    using namespace std::chrono_literals;
    if (!terminal_ || std::chrono::steady_clock::now() - begun_ < 500ms) { return; }
    auto const percent = static_cast<int>(100 * part);
    if (percent == shown_) { return; }
    shown_ = percent;
    std::string bar(static_cast<std::size_t>(percent) * width / 100, '#');
    bar.resize(width, '.');
    std::fprintf(stderr, "\rloading [%s] %3d %% of %.1f MB", bar.c_str(), percent, megabytes_);
  }

 private:
  static constexpr std::size_t width = 40;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  double megabytes_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  int shown_ = -1;
};

}  // namespace llama
