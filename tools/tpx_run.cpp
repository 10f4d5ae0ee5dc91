// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// tpx-run: starts a program as N ranks, each a process of this host, and ends with them.
#include <tpx/runtime/exit_status.hpp>
#include <tpx/runtime/park.hpp>
#include <tpx/runtime/shared_memory.hpp>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <vector>

namespace {

constexpr std::string_view usage = R"(usage: tpx-run -n RANKS [options] [--] PROGRAM [ARGUMENTS...]

Starts PROGRAM as RANKS processes of this host. Each learns from its environment
which rank it is (TPX_RANK, TPX_WORLD_SIZE, TPX_JOB), and tpx::run_ranks() joins
them into one group. All that follows PROGRAM is passed on untouched.

  -n, --ranks RANKS   how many ranks, 1 to 16
  -l, --label         begin each line of output with its rank: "[2] ..."
  -g, --grace SECONDS how long the other ranks may go on after one has failed
                      before they are ended (default 5)
  -k, --keep-going    let them go on: for programs that reset() their group
  -h, --help          this text

Rank 0 reads standard input, the others /dev/null. SIGINT, SIGTERM and SIGHUP
are passed on to all ranks. When a rank fails, it is named on standard error,
and tpx-run ends as the first that failed: with its exit code, or 128 plus the
signal that ended it; 127 if PROGRAM cannot be started, 2 for wrong use. No rank
outlives tpx-run.
)";

struct options {
  int ranks = 0;
  bool label = false;
  bool keep_going = false;
  double grace = 5;
  char** program = nullptr;
};

struct rank_process {
  pid_t pid = -1;
  std::optional<int> status;  // as of waitpid(2), once it has ended
  tpx::unique_fd output[2];   // with --label: what it writes to its standard output and error
  std::string line[2];        // the beginning of a line that is not complete yet
};

void say(int to, std::string_view text) {
  while (!text.empty()) {
    auto const n = ::write(to, text.data(), text.size());
    if (n < 0 && errno != EINTR) { return; }
    text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  }
}

void complain(std::string_view text) {
  say(STDERR_FILENO, "tpx-run: " + std::string{text} + '\n');
}

[[noreturn]] void wrong_use(std::string_view text) {
  complain(std::string{text} + "; tpx-run --help tells how to use it");
  std::exit(2);
}

template <class T>
T number(std::string_view option, std::string_view text, T least, T most) {
  T value{};
  auto const [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (bad != std::errc{} || end != text.data() + text.size() || !(value >= least) ||
      !(value <= most)) {
    wrong_use(std::string{option} + ": \"" + std::string{text} + "\" is not a number from " +
              std::to_string(static_cast<int>(least)) + " to " +
              std::to_string(static_cast<int>(most)));
  }
  return value;
}

options parse(int count, char** arguments) {
  options chosen;
  int i = 1;
  // The value is the next argument, or stands behind "=" or a short option's letter.
  auto const value = [&](std::string_view text, std::string_view brief,
                         std::string_view full) -> std::optional<std::string_view> {
    if (text == brief || text == full) {
      if (++i >= count) { wrong_use(std::string{text} + " needs a value"); }
      return arguments[i];
    }
    if (text.starts_with(full) && text.substr(full.size()).starts_with('=')) {
      return text.substr(full.size() + 1);
    }
    if (text.starts_with(brief) && !text.starts_with("--")) { return text.substr(brief.size()); }
    return {};
  };
  for (; i < count; ++i) {
    std::string_view const text{arguments[i]};
    if (text == "--") {
      ++i;
      break;
    }
    if (text == "-" || !text.starts_with('-')) { break; }
    if (text == "-h" || text == "--help") {
      say(STDOUT_FILENO, usage);
      std::exit(0);
    } else if (text == "-l" || text == "--label") {
      chosen.label = true;
    } else if (text == "-k" || text == "--keep-going") {
      chosen.keep_going = true;
    } else if (auto const n = value(text, "-n", "--ranks")) {
      chosen.ranks = number("-n", *n, 1, 16);
    } else if (auto const s = value(text, "-g", "--grace")) {
      chosen.grace = number("--grace", *s, 0.0, 1e6);
    } else {
      wrong_use("no option " + std::string{text});
    }
  }
  if (chosen.ranks == 0) { wrong_use("-n says how many ranks to start, and is missing"); }
  if (i >= count) { wrong_use("no program to start"); }
  chosen.program = arguments + i;
  return chosen;
}

class launcher {
 public:
  explicit launcher(options const& chosen)
      : chosen_{chosen}, ranks_(static_cast<std::size_t>(chosen.ranks)), me_{::getpid()} {
    std::uint64_t random[2];
    if (::getrandom(random, sizeof(random), 0) != sizeof(random)) {
      random[0] = tpx::detail::now_ns();
    }
    for (auto bits : random) {
      for (int i = 0; i < 16; ++i, bits >>= 4) { job_ += "0123456789abcdef"[bits & 15]; }
    }
    sigemptyset(&signals_);
    for (int s : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) { sigaddset(&signals_, s); }
    ::sigprocmask(SIG_BLOCK, &signals_, &before_);
    signal_fd_ = tpx::unique_fd{::signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK)};
  }

  int run() {
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      if (int const e = start(r); e != 0) {
        complain("cannot start " + std::string{chosen_.program[0]} + ": " + std::strerror(e));
        send(SIGKILL);
        reap();
        return e == ENOENT ? 127 : 126;
      }
    }
    while (running() > 0 || outputs_open()) {
      std::vector<pollfd> polled{{signal_fd_.get(), POLLIN, 0}};
      for (auto const& rank : ranks_) {
        for (auto const& fd : rank.output) { polled.push_back({fd.get(), POLLIN, 0}); }
      }
      ::poll(polled.data(), polled.size(), milliseconds_left());
      if (polled[0].revents != 0) { take_signals(); }
      for (std::size_t i = 1; i < polled.size(); ++i) {
        if (polled[i].revents != 0) { pass_on((i - 1) / 2, (i - 1) % 2); }
      }
      // A rank's children may hold its output open: they are not waited for.
      if (running() == 0 && polled[0].revents == 0 &&
          std::none_of(polled.begin() + 1, polled.end(),
                       [](auto const& p) { return p.revents != 0; })) {
        break;
      }
      escalate();
    }
    reap();
    return result_;
  }

 private:
  /// 0 or the errno for which the program cannot be started.
  int start(std::size_t r) {
    int report[2];
    if (::pipe2(report, O_CLOEXEC) != 0) { return errno; }
    tpx::unique_fd const read_end{report[0]};
    tpx::unique_fd write_end{report[1]};
    tpx::unique_fd output[2];
    for (std::size_t i = 0; chosen_.label && i < 2; ++i) {
      int pipe[2];
      if (::pipe2(pipe, O_CLOEXEC) != 0) { return errno; }
      ranks_[r].output[i] = tpx::unique_fd{pipe[0]};
      output[i] = tpx::unique_fd{pipe[1]};
    }
    ranks_[r].pid = ::fork();
    if (ranks_[r].pid < 0) { return errno; }
    if (ranks_[r].pid == 0) {
      become(r, output);
      int const e = errno;
      say(write_end.get(), {reinterpret_cast<char const*>(&e), sizeof(e)});
      ::_exit(127);
    }
    write_end = {};
    int e = 0;
    ssize_t n = 0;
    do { n = ::read(read_end.get(), &e, sizeof(e)); } while (n < 0 && errno == EINTR);
    return n == sizeof(e) ? e : 0;  // closed by exec
  }

  /// In the child: turns into the program, or returns with errno.
  void become(std::size_t r, tpx::unique_fd const (&output)[2]) {
    // The kernel ends the rank with us; if we ended before it knew, nobody would.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != me_) { ::_exit(127); }
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    ::setenv("TPX_RANK", std::to_string(r).c_str(), 1);
    ::setenv("TPX_WORLD_SIZE", std::to_string(ranks_.size()).c_str(), 1);
    ::setenv("TPX_JOB", job_.c_str(), 1);
    if (r != 0) {
      int const nothing = ::open("/dev/null", O_RDONLY);
      if (nothing > STDIN_FILENO) {
        ::dup2(nothing, STDIN_FILENO);
        ::close(nothing);
      }
    }
    if (output[0]) {
      ::dup2(output[0].get(), STDOUT_FILENO);
      ::dup2(output[1].get(), STDERR_FILENO);
    }
    ::execvp(chosen_.program[0], chosen_.program);
  }

  [[nodiscard]] std::size_t running() const {
    return static_cast<std::size_t>(std::count_if(
      ranks_.begin(), ranks_.end(), [](auto const& r) { return r.pid > 0 && !r.status; }));
  }

  [[nodiscard]] bool outputs_open() const {
    return std::any_of(ranks_.begin(), ranks_.end(),
                       [](auto const& r) { return r.output[0] || r.output[1]; });
  }

  void send(int signal) const {
    for (auto const& rank : ranks_) {
      if (rank.pid > 0 && !rank.status) { ::kill(rank.pid, signal); }
    }
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signal_fd_.get(), &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGCHLD) { continue; }
      // What a terminal sends, it sends to the ranks too.
      if (info.ssi_code != SI_KERNEL) { send(static_cast<int>(info.ssi_signo)); }
    }
    for (std::size_t r = 0; r < ranks_.size(); ++r) { look_at(r); }
  }

  void look_at(std::size_t r) {
    auto& rank = ranks_[r];
    if (rank.pid <= 0 || rank.status) { return; }
    siginfo_t info{};
    // Left unreaped until the end, so that the other ranks can read how it ended.
    if (::waitid(P_PID, static_cast<id_t>(rank.pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid == 0) {
      return;
    }
    rank.status = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0) : info.si_status;
    if (*rank.status == 0) { return; }
    complain("rank " + std::to_string(r) + " (pid " + std::to_string(rank.pid) + ") " +
             (failed_at_ == 0 ? "failed: " : "failed too: ") +
             tpx::detail::describe_exit(*rank.status));
    if (failed_at_ == 0) {
      failed_at_ = tpx::detail::now_ns();
      result_ =
        WIFSIGNALED(*rank.status) ? 128 + WTERMSIG(*rank.status) : WEXITSTATUS(*rank.status);
    }
  }

  /// When the next harsher step is due after a failure.
  [[nodiscard]] std::uint64_t due() const {
    auto const grace = static_cast<std::uint64_t>(chosen_.grace * 1e9);
    return failed_at_ + grace + (terminated_ ? 2'000'000'000u : 0);
  }

  [[nodiscard]] int milliseconds_left() const {
    if (running() == 0) { return 100; }
    if (failed_at_ == 0 || chosen_.keep_going || killed_) { return -1; }
    auto const now = tpx::detail::now_ns();
    return now >= due()
             ? 0
             : static_cast<int>(std::min<std::uint64_t>((due() - now) / 1'000'000 + 1, 3'600'000));
  }

  void escalate() {
    if (failed_at_ == 0 || chosen_.keep_going || killed_ || running() == 0 ||
        tpx::detail::now_ns() < due()) {
      return;
    }
    complain((terminated_ ? "killing " : "ending ") + std::to_string(running()) +
             " rank(s) that went on after that");
    send(terminated_ ? SIGKILL : SIGTERM);
    if (!terminated_) { send(SIGCONT); }  // a stopped rank would not see it
    killed_ = std::exchange(terminated_, true);
  }

  /// Copies what a rank wrote, whole lines at a time.
  void pass_on(std::size_t r, std::size_t stream) {
    auto& rank = ranks_[r];
    auto& line = rank.line[stream];
    int const to = stream == 0 ? STDOUT_FILENO : STDERR_FILENO;
    std::string const label = '[' + std::to_string(r) + "] ";
    char buffer[8192];
    auto const n = ::read(rank.output[stream].get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) { return; }
    if (n <= 0) {
      rank.output[stream] = {};
      if (!line.empty()) { say(to, label + std::exchange(line, {}) + '\n'); }
      return;
    }
    line.append(buffer, static_cast<std::size_t>(n));
    std::string lines;
    for (auto end = line.find('\n'); end != line.npos; end = line.find('\n')) {
      lines += label + line.substr(0, end + 1);
      line.erase(0, end + 1);
    }
    say(to, lines);
  }

  void reap() const {
    for (auto const& rank : ranks_) {
      while (rank.pid > 0 && ::waitpid(rank.pid, nullptr, 0) < 0 && errno == EINTR) {}
    }
  }

  options chosen_;
  std::vector<rank_process> ranks_;
  pid_t me_;
  std::string job_;
  sigset_t signals_{};
  sigset_t before_{};
  tpx::unique_fd signal_fd_;
  std::uint64_t failed_at_ = 0;
  bool terminated_ = false;
  bool killed_ = false;
  int result_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
  launcher job{parse(count, arguments)};
  return job.run();
}
