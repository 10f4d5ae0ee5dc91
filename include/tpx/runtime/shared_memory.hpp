// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace tpx {

/// A file descriptor that closes itself.
class unique_fd {
 public:
  unique_fd() = default;
  explicit unique_fd(int fd) noexcept : fd_{fd} {}
  unique_fd(unique_fd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    unique_fd old{std::exchange(fd_, std::exchange(other.fd_, -1))};
    return *this;
  }
  ~unique_fd() {
    if (fd_ >= 0) { ::close(fd_); }
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

namespace detail {

/// An `io` or `out_of_memory` error for a system call that has just failed.
[[nodiscard]] inline error system_error(
  std::string const& call, std::string remedy = {},
  cuda::std::source_location where = cuda::std::source_location::current()) {
  int const number = errno;
  bool const memory = number == ENOMEM || number == ENOSPC || number == EMFILE || number == ENFILE;
  return error{memory ? errc::out_of_memory : errc::io,
               call + " failed: " + std::strerror(number),  // NOLINT(concurrency-mt-unsafe)
               {.remedy = std::move(remedy)},
               where};
}

}  // namespace detail

/// Zeroed memory that other processes can map: a sealed memfd, which has no name that could be
/// left behind and which nobody can shrink under a reader (memfd_create(2), fcntl(2) F_ADD_SEALS).
class shared_memory {
 public:
  static constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

  /// Creates and commits `bytes`; errors: out_of_memory, with the bytes asked for.
  [[nodiscard]] static shared_memory create(std::size_t bytes) {
    std::string const size = std::to_string(bytes) + " bytes";
    unique_fd fd{::memfd_create("tpx", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (!fd) { throw detail::system_error("memfd_create", "raise the limit on open files"); }
    if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
      throw detail::system_error("sizing shared memory to " + size);
    }
    if (::fcntl(fd.get(), F_ADD_SEALS, seals) != 0) { throw detail::system_error("F_ADD_SEALS"); }
    // Committed here, so that too little memory is an error now and not a SIGBUS later.
    if (int const e = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes)); e != 0) {
      errno = e;
      throw detail::system_error("committing " + size + " of shared memory",
                                 "lower the communicator's max_bytes, or give the container more "
                                 "memory");
    }
    return shared_memory{std::move(fd), bytes};
  }

  /// Maps what another rank created. Its word is not taken for the size or the seals.
  [[nodiscard]] static shared_memory open(unique_fd fd, std::size_t bytes) {
    struct stat s {};
    if (::fstat(fd.get(), &s) != 0) { throw detail::system_error("fstat"); }
    if ((::fcntl(fd.get(), F_GET_SEALS) & seals) != seals) {
      throw error{errc::io, "shared memory from a peer is not sealed and could shrink under us"};
    }
    if (s.st_size < 0 || static_cast<std::size_t>(s.st_size) != bytes) {
      throw error{errc::mismatch, "shared memory from a peer has " + std::to_string(s.st_size) +
                                    " bytes where " + std::to_string(bytes) + " are needed"};
    }
    return shared_memory{std::move(fd), bytes};
  }

  shared_memory(shared_memory&& other) noexcept
      : fd_{std::move(other.fd_)},
        data_{std::exchange(other.data_, nullptr)},
        bytes_{std::exchange(other.bytes_, 0)} {}
  shared_memory& operator=(shared_memory&&) = delete;
  ~shared_memory() {
    if (data_ != nullptr) { ::munmap(data_, bytes_); }
  }

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  /// Closes the descriptor; the mapping stays.
  void close_fd() noexcept { fd_ = unique_fd{}; }

 private:
  shared_memory(unique_fd fd, std::size_t bytes) : fd_{std::move(fd)}, bytes_{bytes} {
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (at == MAP_FAILED) {
      throw detail::system_error("mapping " + std::to_string(bytes) + " bytes of shared memory");
    }
    data_ = static_cast<std::byte*>(at);
  }

  unique_fd fd_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace tpx
