// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace llama {

/// A file's bytes, mapped read-only; pages are read when they are first touched.
///
/// Errors  file_error: missing_file, unreadable (not a regular file, no permission, no address
///         space). A file that another program cuts short while it is mapped raises SIGBUS at the
///         first touch of a page that is gone: replace model files by rename, never in place.
class mapped_file {
 public:
  explicit mapped_file(std::string path);

  mapped_file(mapped_file&& other) noexcept;
  mapped_file& operator=(mapped_file&& other) noexcept;
  ~mapped_file();

  [[nodiscard]] std::span<std::byte const> bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::string_view text() const noexcept;
  [[nodiscard]] std::string const& path() const noexcept { return path_; }

  /// Asks the kernel to start reading `part`, a part of bytes(), in the background.
  void will_need(std::span<std::byte const> part) const noexcept;

 private:
  std::string path_;
  std::span<std::byte const> bytes_;
};

}  // namespace llama
