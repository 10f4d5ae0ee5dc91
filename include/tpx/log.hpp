// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <time.h>
#include <unistd.h>

namespace tpx {

/// How much TPX_DEBUG asks for: its number or its word. Each level includes the ones before it.
enum class log_level : int {
  off,    ///< 0, or nothing set: no line, no file
  error,  ///< what ended a group
  warn,   ///< what a rank survived: a dead peer, a stranger at the rendezvous
  info,   ///< groups that start, end and begin anew
  trace,  ///< each step of a start-up, each share()
};

[[nodiscard]] constexpr std::string_view name(log_level level) noexcept {
  constexpr std::string_view names[]{"off", "error", "warn", "info", "trace"};
  return names[static_cast<int>(level)];
}

namespace detail {

[[nodiscard]] inline log_level log_level_from(char const* text) noexcept {
  std::string_view const said{text == nullptr ? "" : text};
  for (auto level : {log_level::error, log_level::warn, log_level::info, log_level::trace}) {
    if (said == name(level) ||
        (said.size() == 1 && said[0] == static_cast<char>('0' + static_cast<int>(level)))) {
      return level;
    }
  }
  return log_level::off;
}

/// Read once, before main(); 0 and so off in whatever runs earlier.
inline log_level const log_threshold = log_level_from(std::getenv("TPX_DEBUG"));

/// Where lines go: TPX_DEBUG_FILE, in which %p stands for the process id, or standard error.
[[nodiscard]] inline int log_file() {
  static int const file = [] {
    char const* const pattern = std::getenv("TPX_DEBUG_FILE");
    if (pattern == nullptr || *pattern == 0) { return STDERR_FILENO; }
    std::string path{pattern};
    if (auto const at = path.find("%p"); at != std::string::npos) {
      path.replace(at, 2, std::to_string(::getpid()));
    }
    int const fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return fd < 0 ? STDERR_FILENO : fd;
  }();
  return file;
}

[[nodiscard]] inline std::string log_time() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  ::gmtime_r(&now.tv_sec, &utc);
  char text[24];
  auto const length = ::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S.", &utc);
  std::string const micros = std::to_string(1'000'000 + now.tv_nsec / 1000);
  return std::string(text, length) + micros.substr(1) + 'Z';
}

inline void log_write(log_level level, int rank, std::string_view message) {
  std::string line = log_time() + " tpx " + std::to_string(::getpid());
  if (rank >= 0) { line += " rank " + std::to_string(rank); }
  line += ' ';
  line += name(level);
  line += ": ";
  line += message;
  line += '\n';
  // One write, so that the lines of several ranks do not mix; what fails here is nobody's error.
  [[maybe_unused]] auto const written = ::write(log_file(), line.data(), line.size());
}

}  // namespace detail

/// Writes "2025-01-31T12:00:00.000001Z tpx 4711 rank 2 info: ..." if TPX_DEBUG asks for the level.
/// `make` returns the message and is called only then: off costs one branch. Rank -1: none yet.
template <class Make>
void log(log_level level, int rank, Make&& make) noexcept {
  if (level > detail::log_threshold) [[likely]] { return; }
  try {
    detail::log_write(level, rank, make());
  } catch (...) {}  // no memory for a line must not end what it tells about
}

}  // namespace tpx
