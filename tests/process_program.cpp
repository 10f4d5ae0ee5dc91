// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the tests of processes start as ranks. Its first argument says what it does; each fact that
// a test asks for is one line on standard output.
#include <tpx/allreduce.hpp>
#include <tpx/run_ranks.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <sys/wait.h>
#include <vector>

namespace {

using std::chrono::milliseconds;

template <class... Words>
void tell(Words const&... words) {
  std::string line;
  auto const add = [&](auto const& w) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(w)>>) {
      line += std::to_string(w) + ' ';
    } else {
      line += std::string{w} + ' ';
    }
  };
  (add(words), ...);
  line += '\n';
  [[maybe_unused]] auto const n = ::write(STDOUT_FILENO, line.data(), line.size());
}

long count_descriptors() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator{"/proc/self/fd"}, fs::directory_iterator{});
}

struct mappings {
  long all = 0;
  long ours = 0;
  static mappings now() {
    mappings m;
    std::ifstream file{"/proc/self/maps"};
    for (std::string line; std::getline(file, line); ++m.all) {
      m.ours += static_cast<long>(line.find("memfd:tpx") != line.npos);
    }
    return m;
  }
};

void require(bool holds, char const* what) {
  if (!holds) {
    tell("wrong", what);
    std::_Exit(9);
  }
}

/// One round of everything that ranks do together, checked.
template <class Comm>
void operate(tpx::group& g, Comm& comm, unsigned i) {
  auto const n = static_cast<std::uint64_t>(g.size());
  g.agree(i);
  auto const all = g.exchange(static_cast<std::uint64_t>(g.rank()) + i);
  for (std::uint64_t r = 0; r < n; ++r) { require(all[r] == r + i, "exchange"); }
  std::vector<std::int32_t> x(1 + i % 1000, g.rank() + 1);
  tpx::allreduce(comm, x);
  for (auto v : x) { require(v == g.size() * (g.size() + 1) / 2, "allreduce"); }
}

template <class Topology = tpx::AllPairs>
using communicator = tpx::communicator<tpx::HostPinned, Topology, tpx::Cpu>;

void agree(tpx::group& g, unsigned rounds) {
  for (unsigned i = 0; i < rounds; ++i) { require(g.agree(i) == i, "agree"); }
  auto const me = static_cast<std::size_t>(g.rank());
  for (int root = 0; root < g.size(); ++root) {
    require(g.decide(100 + me, root) == 100 + static_cast<std::uint64_t>(root), "decide");
    auto const memory = g.share(4096 * (1 + static_cast<std::size_t>(root)), root);
    memory->data()[me] = std::byte(10 + g.rank() + root);
    g.agree(0);
    for (int r = 0; r < g.size(); ++r) {
      require(memory->data()[r] == std::byte(10 + r + root), "share");
    }
    require(memory->data()[g.size()] == std::byte{0}, "share is zeroed");
  }
  tell("agreed", g.rank(), g.size(), g.processes() ? "processes" : "threads", count_descriptors());
}

/// Works until something ends the group, says what, and goes on with the ranks that live.
void work_until_it_fails(tpx::group_options const& options, bool go_on) {
  // The first group and the first exception leave the allocator's and the unwinder's memory behind.
  tpx::run_ranks(
    0,
    [](tpx::group& g) {
      communicator<> comm{g};
      operate(g, comm, 1);
      try {
        throw tpx::error{tpx::errc::io, "for practice"};
      } catch (tpx::error const&) {}
    },
    options);
  auto const descriptors = count_descriptors();
  auto const maps = mappings::now();
  tpx::run_ranks(
    0,
    [&](tpx::group& g) {
      try {
        communicator<> pairs{g};
        communicator<tpx::Ring> ring{g};
        operate(g, pairs, 0);
        tell("ready", g.rank());
        for (unsigned i = 1;; ++i) {
          operate(g, pairs, i);
          operate(g, ring, i);
        }
      } catch (tpx::error const& e) {
        tell("caught", tpx::detail::now_ns(), tpx::name(e.code()), e.peer(), e.what());
      }
      if (go_on) {
        g.reset();
        communicator<> again{g};
        for (unsigned i = 0; i < 100; ++i) { operate(g, again, i); }
        tell("again", g.rank(), g.size());
        return;
      }
      try {
        g.agree(0);
        tell("sticky", "not");
      } catch (tpx::error const& e) { tell("sticky", tpx::name(e.code()), e.peer()); }
    },
    options);
  auto const after = mappings::now();
  tell("left", count_descriptors() - descriptors, after.all - maps.all, after.ours);
}

void join_often(int times, tpx::group_options const& options) {
  long descriptors = 0;
  mappings maps;
  for (int i = 0; i < times; ++i) {
    tpx::run_ranks(
      0,
      [&](tpx::group& g) {
        communicator<> comm{g};
        operate(g, comm, 5);
      },
      options);
    if (i == 1) {
      descriptors = count_descriptors();
      maps = mappings::now();
    }
  }
  auto const after = mappings::now();
  tell("left", count_descriptors() - descriptors, after.all - maps.all, after.ours);
}

/// A child made by fork() holds the group's object and is no rank.
void fork_inside(tpx::group& g) {
  g.agree(1);
  pid_t const pid = ::fork();
  if (pid == 0) {
    try {
      g.agree(2);
      std::_Exit(1);
    } catch (tpx::error const& e) {
      g.abort(tpx::errc::io, "from the child");
      g.leave();
      std::_Exit(e.code() == tpx::errc::unsupported ? 0 : 2);
    }
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  require(status == 0, "the child's call");
  for (unsigned i = 0; i < 100; ++i) { g.agree(i); }
  tell("forked", g.rank());
}

int run(std::vector<std::string> const& arguments) {
  std::string const mode = arguments.at(0);
  auto const number = [&](std::size_t i, int otherwise) {
    return arguments.size() > i ? std::stoi(arguments[i]) : otherwise;
  };
  tpx::group_options const options{.deadline = milliseconds{number(1, 30'000)}};
  if (mode == "agree") {
    tpx::run_ranks(
      number(2, 0), [](tpx::group& g) { agree(g, 1000); }, options);
  } else if (mode == "reset" || mode == "fail") {
    work_until_it_fails(options, mode == "reset");
  } else if (mode == "often") {
    join_often(number(2, 20), options);
  } else if (mode == "fork") {
    tpx::run_ranks(
      0, [](tpx::group& g) { fork_inside(g); }, options);
  } else if (mode == "early") {
    tpx::run_ranks(
      0,
      [](tpx::group& g) {
        g.agree(1);
        if (g.rank() != 1) { g.agree(2); }
      },
      options);
  } else if (mode == "throw") {
    tpx::run_ranks(
      0,
      [](tpx::group& g) {
        g.agree(1);
        if (g.rank() == 1) { throw std::runtime_error{"out of coffee"}; }
        g.agree(2);
      },
      options);
  } else if (mode == "exit") {  // a rank's process ends without leaving
    tpx::run_ranks(
      0,
      [](tpx::group& g) {
        g.agree(1);
        if (g.rank() == 1) { std::_Exit(7); }
        g.agree(2);
      },
      options);
  } else if (mode == "sleep") {
    tell("asleep", ::getpid());
    ::sleep(60);
  } else {
    return 2;
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run({arguments + 1, arguments + count});
  } catch (tpx::error const& e) {
    tell("error", tpx::name(e.code()), e.peer(), e.what());
    return 3;
  } catch (std::exception const& e) {
    tell("exception", e.what());
    return 4;
  }
}
