// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/park.hpp>
#include <tpx/runtime/shared_memory.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <poll.h>
#include <set>
#include <signal.h>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <utility>
#include <vector>

extern char** environ;

/// Programs that a test starts, watches through what they print, and never leaves behind.
namespace process {

using variables = std::vector<std::pair<std::string, std::string>>;
using words = std::vector<std::string>;

inline constexpr bool thread_sanitizer =
#if defined(__SANITIZE_THREAD__)
  true;
#else
  false;
#endif
inline constexpr bool address_sanitizer =
#if defined(__SANITIZE_ADDRESS__)
  true;
#else
  false;
#endif

[[nodiscard]] inline bool of_a_launcher(std::string_view variable) {
  for (std::string_view prefix : {"TPX_", "RANK=", "WORLD_SIZE=", "LOCAL_", "MASTER_",
                                  "TORCHELASTIC_", "OMPI_COMM_", "PMIX_", "SLURM_"}) {
    if (variable.starts_with(prefix)) { return true; }
  }
  return false;
}

/// This process's environment without any launcher's word, and with `added`.
[[nodiscard]] inline std::vector<std::string> environment(variables const& added) {
  std::vector<std::string> all;
  for (char** v = environ; *v != nullptr; ++v) {
    if (!of_a_launcher(*v)) { all.emplace_back(*v); }
  }
  for (auto const& [name, value] : added) { all.push_back(name + '=' + value); }
  return all;
}

class child {
 public:
  /// What it prints on standard output and error is kept.
  child(words const& command, variables const& added) {
    int pipe[2];
    if (::pipe2(pipe, O_CLOEXEC) != 0) { throw tpx::detail::system_error("pipe"); }
    output_ = tpx::unique_fd{pipe[0]};
    tpx::unique_fd const input{pipe[1]};
    auto const env = environment(added);
    std::vector<char*> arguments;
    std::vector<char*> strings;
    for (auto const& w : command) { arguments.push_back(const_cast<char*>(w.c_str())); }
    for (auto const& e : env) { strings.push_back(const_cast<char*>(e.c_str())); }
    arguments.push_back(nullptr);
    strings.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      for (int s : {SIGINT, SIGTERM, SIGHUP}) {
        ::signal(s, SIG_DFL);
      }  // whatever started the test
      ::dup2(pipe[1], STDOUT_FILENO);
      ::dup2(pipe[1], STDERR_FILENO);
      ::execvpe(arguments[0], arguments.data(), strings.data());
      ::_exit(127);
    }
  }
  child(child&& other) noexcept
      : pid_{std::exchange(other.pid_, -1)},
        status_{other.status_},
        output_{std::move(other.output_)},
        text_{std::move(other.text_)} {}
  child& operator=(child&&) = delete;
  ~child() {
    if (pid_ > 0 && !status_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::string const& text() const { return text_; }

  /// Signals it; the CLOCK_MONOTONIC time just before.
  std::uint64_t signal(int number) const {
    auto const now = tpx::detail::now_ns();
    ::kill(pid_, number);
    return now;
  }

  /// The words of the first whole line that begins with `first`; empty after `seconds`.
  [[nodiscard]] words line(std::string const& first, double seconds = 30) {
    auto const until = deadline(seconds);
    while (true) {
      if (auto found = find(first); !found.empty()) { return found; }
      if (!read_until(until)) { return find(first); }
    }
  }

  /// Its status as of waitpid(2), after all its output has come; empty if it runs on for `seconds`.
  std::optional<int> wait(double seconds = 30) {
    auto const until = deadline(seconds);
    while (read_until(until)) {}
    while (!status_) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        status_ = status;
      } else if (tpx::detail::now_ns() >= until) {
        return {};
      } else {
        ::usleep(1000);
      }
    }
    return status_;
  }

  /// Whether it ended by returning 0.
  bool succeeds(double seconds = 30) {
    auto const status = wait(seconds);
    return status && *status == 0;
  }

 private:
  static std::uint64_t deadline(double seconds) {
    return tpx::detail::now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  }

  bool read_until(std::uint64_t until) {
    auto const now = tpx::detail::now_ns();
    pollfd polled{output_.get(), POLLIN, 0};
    if (::poll(&polled, 1, now < until ? static_cast<int>((until - now) / 1'000'000) + 1 : 0) <=
        0) {
      return tpx::detail::now_ns() < until;
    }
    char buffer[4096];
    auto const n = ::read(output_.get(), buffer, sizeof(buffer));
    if (n > 0) { text_.append(buffer, static_cast<std::size_t>(n)); }
    return n > 0;
  }

  [[nodiscard]] words find(std::string const& first) const {
    std::istringstream lines{text_.substr(0, text_.rfind('\n') + 1)};
    for (std::string line; std::getline(lines, line);) {
      std::istringstream rest{line};
      words all;
      for (std::string w; rest >> w;) { all.push_back(w); }
      if (!all.empty() && all[0] == first) { return all; }
    }
    return {};
  }

  pid_t pid_ = -1;
  std::optional<int> status_;
  tpx::unique_fd output_;
  std::string text_;
};

/// A job's name that no other test uses.
[[nodiscard]] inline std::string new_job() {
  static int count = 0;
  return "test " + std::to_string(::getpid()) + ' ' + std::to_string(++count);
}

[[nodiscard]] inline variables rank_of(std::string const& job, int rank, int size) {
  return {
    {"TPX_RANK", std::to_string(rank)}, {"TPX_WORLD_SIZE", std::to_string(size)}, {"TPX_JOB", job}};
}

/// process_program in `mode`, as the given ranks of a job of `size`.
[[nodiscard]] inline std::vector<child> start_ranks(std::vector<int> const& ranks, int size,
                                                    std::string const& job, words const& mode) {
  std::vector<child> all;
  words command{PROCESS_PROGRAM};
  command.insert(command.end(), mode.begin(), mode.end());
  for (int r : ranks) { all.emplace_back(command, rank_of(job, r, size)); }
  return all;
}

/// What could be left behind: descriptors, children, names in folders that all processes share.
[[nodiscard]] inline std::string traces() {
  namespace fs = std::filesystem;
  auto const count =
    std::distance(fs::directory_iterator{"/proc/self/fd"}, fs::directory_iterator{});
  std::set<std::string> names;
  for (char const* folder : {"/dev/shm", "/tmp"}) {
    std::error_code unreadable;
    for (auto const& entry : fs::directory_iterator{folder, unreadable}) {
      auto const name = entry.path().string();
      if (name.find("tpx") != name.npos && !entry.is_directory(unreadable)) { names.insert(name); }
    }
  }
  std::string found = std::to_string(count) + " descriptors, ";
  found += ::waitpid(-1, nullptr, WNOHANG) >= 0 ? "children" : "no child";
  for (auto const& name : names) { found += ", " + name; }
  return found;
}

}  // namespace process
