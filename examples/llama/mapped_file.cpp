// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "mapped_file.hpp"

#include "file_error.hpp"

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace llama {
namespace {

struct descriptor {
  int number;
  explicit descriptor(int n) : number{n} {}
  descriptor(descriptor const&) = delete;
  descriptor& operator=(descriptor const&) = delete;
  ~descriptor() {
    if (number >= 0) { ::close(number); }
  }
};

[[noreturn]] void refused(std::string const& path, std::string const& call, int why) {
  auto const fault = why == ENOENT || why == ENOTDIR ? file_fault::missing_file  //
                                                     : file_fault::unreadable;
  throw file_error{fault, path, call + ": " + std::generic_category().message(why)};
}

void unmap(std::span<std::byte const> bytes) noexcept {
  if (!bytes.empty()) { ::munmap(const_cast<std::byte*>(bytes.data()), bytes.size()); }
}

}  // namespace

mapped_file::mapped_file(std::string path) : path_{std::move(path)} {
  // Without O_NONBLOCK, opening a named pipe would wait for its writer.
  descriptor const file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) { refused(path_, "open", errno); }
  struct stat facts {};
  if (::fstat(file.number, &facts) != 0) { refused(path_, "fstat", errno); }
  if (!S_ISREG(facts.st_mode)) {
    throw file_error{file_fault::unreadable, path_, "is not a regular file"};
  }
  if (facts.st_size == 0) { return; }  // mmap refuses a length of 0
  auto const size = static_cast<std::size_t>(facts.st_size);
  void* const start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (start == MAP_FAILED) { refused(path_, "mmap of " + std::to_string(size) + " bytes", errno); }
  bytes_ = {static_cast<std::byte const*>(start), size};
}

mapped_file::mapped_file(mapped_file&& other) noexcept
    : path_{std::move(other.path_)}, bytes_{std::exchange(other.bytes_, {})} {}

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
  if (this != &other) {
    unmap(bytes_);
    path_ = std::move(other.path_);
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

mapped_file::~mapped_file() {
  unmap(bytes_);
}

std::string_view mapped_file::text() const noexcept {
  return {reinterpret_cast<char const*>(bytes_.data()), bytes_.size()};
}

void mapped_file::will_need(std::span<std::byte const> part) const noexcept {
  auto const page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  auto const begin = reinterpret_cast<std::uintptr_t>(part.data()) & ~(page - 1);
  auto const end = reinterpret_cast<std::uintptr_t>(part.data()) + part.size();
  // Only a hint: when it is refused, pages are read at the first touch as before.
  if (!part.empty()) { ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED); }
}

}  // namespace llama
