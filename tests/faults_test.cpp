// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "process_support.hpp"

#include <tpx/runtime/rendezvous.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

// Ranks that die, stop, never come or lie. What must hold: every live rank gets an error that names
// the culprit, in time, and nothing is left behind.
namespace {

using process::child;
using process::start_ranks;
using process::words;

bool has(std::string const& text, std::string const& part) {
  return text.find(part) != text.npos;
}

std::vector<int> all_of(int size) {
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) { ranks.push_back(r); }
  return ranks;
}

/// Whether a socket of the job's start is still there, now or in a group it made before.
bool name_is_left(std::string const& job) {
  std::ifstream sockets{"/proc/net/unix"};
  std::string const text{std::istreambuf_iterator<char>{sockets}, {}};
  for (unsigned attempt : {1u, 2u}) {
    if (has(text, '@' + tpx::detail::rendezvous_point{job, attempt}.name)) { return true; }
  }
  return false;
}

/// That a rank which went through a fault keeps no descriptor and no mapping of it.
void check_left_nothing(child& rank) {
  auto const left = rank.line("left");
  INFO(rank.text());
  REQUIRE(left.size() == 4);
  CHECK(left[1] == "0");
  if (!process::address_sanitizer) { CHECK(left[2] == "0"); }
  CHECK(left[3] == "0");
}

/// Kills a random rank of 2 to 4 at a random moment of its work; how many ms until each of the
/// others knew. Those go on without it.
std::vector<double> kill_one(std::mt19937& random) {
  auto const any = [&](int from, int to) {
    return std::uniform_int_distribution{from, to}(random);
  };
  int const size = any(2, 4);
  int const victim = any(0, size - 1);
  auto const job = process::new_job();
  auto ranks = start_ranks(all_of(size), size, job, {"reset", "20000"});
  for (auto& r : ranks) { REQUIRE_FALSE(r.line("ready").empty()); }
  ::usleep(static_cast<useconds_t>(any(0, 8000)));
  auto const at = [&](int r) -> child& { return ranks[static_cast<std::size_t>(r)]; };
  auto const killed = at(victim).signal(SIGKILL);
  std::vector<double> took;
  for (int r = 0; r < size; ++r) {
    if (r == victim) { continue; }
    auto const caught = at(r).line("caught");
    INFO("rank " << r << " of " << size << ", killed " << victim << ": " << at(r).text());
    REQUIRE(caught.size() > 4);
    CHECK(caught[2] == "peer_died");
    CHECK(caught[3] == std::to_string(victim));
    CHECK(has(at(r).text(), "rank " + std::to_string(victim) + " (pid " +
                              std::to_string(at(victim).pid()) + ") died"));
    took.push_back(static_cast<double>(std::stoull(caught[1]) - killed) / 1e6);
    auto const again = at(r).line("again");
    REQUIRE(again.size() == 3);
    CHECK(again[1] == std::to_string(r - static_cast<int>(r > victim)));
    CHECK(again[2] == std::to_string(size - 1));
    check_left_nothing(at(r));
    CHECK(at(r).succeeds());
  }
  CHECK_FALSE(name_is_left(job));
  return took;
}

/// Kills a random rank before or while the group starts: the others end in time, with an error
/// that names it or, where it left in order before, without.
void kill_while_starting(std::mt19937& random) {
  auto const any = [&](int from, int to) {
    return std::uniform_int_distribution{from, to}(random);
  };
  int const size = any(2, 4);
  int const victim = any(0, size - 1);
  auto const job = process::new_job();
  auto ranks = start_ranks(all_of(size), size, job, {"fail", "1000"});
  ::usleep(static_cast<useconds_t>(any(0, 6000)));
  auto const at = [&](int r) -> child& { return ranks[static_cast<std::size_t>(r)]; };
  auto const killed = at(victim).signal(SIGKILL);
  for (int r = 0; r < size; ++r) {
    if (r == victim) { continue; }
    auto const status = at(r).wait(10);
    INFO("rank " << r << " of " << size << ", killed " << victim << ": " << at(r).text());
    REQUIRE(status.has_value());
    CHECK(WIFEXITED(*status));
    // Whoever comes when rank 0 has told the others and ended finds that one gone, and names it.
    bool const zero_failed =
      r != 0 && victim != 0 && has(at(0).text(), "peer_died " + std::to_string(victim));
    auto const error = at(r).line("error");
    auto const caught = at(r).line("caught");
    REQUIRE((error.size() > 3 || caught.size() > 4));
    std::string const code = error.empty() ? caught[2] : error[1];
    std::string const peer = error.empty() ? caught[3] : error[2];
    CHECK((code == "peer_died" || code == "timeout"));
    CHECK((peer == std::to_string(victim) || (peer == "0" && zero_failed)));
  }
  CHECK(tpx::detail::now_ns() - killed < 6'000'000'000u);
  CHECK_FALSE(name_is_left(job));
}

void kill_many(int times, unsigned seed) {
  std::mt19937 random{seed};
  auto const before = process::traces();
  std::vector<double> took;
  for (int i = 0; i < times; ++i) {
    if (i % 5 == 4) {
      kill_while_starting(random);
    } else {
      auto const these = kill_one(random);
      took.insert(took.end(), these.begin(), these.end());
    }
  }
  CHECK(process::traces() == before);
  std::sort(took.begin(), took.end());
  auto const median = took[took.size() / 2];
  auto const slow = took[took.size() * 99 / 100];
  WARN("a death was seen by " << took.size() << " ranks: median " << median << " ms, 99 % within "
                              << slow << " ms, all within " << took.back() << " ms");
  CHECK(median < 50);
  CHECK(took.back() < 1'000);
}

TEST_CASE("a rank that is killed at a random moment is named on every other rank in under 50 ms",
          "[serial]") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  kill_many(process::address_sanitizer ? 20 : 50, 20'250'101);
}

TEST_CASE("1,000 killed ranks are named, and leave nothing", "[.][long]") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  kill_many(1000, std::random_device{}());
}

TEST_CASE("a stopped rank is named within the deadline and a second, and learns of it",
          "[serial]") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  std::mt19937 random{20'250'102};
  for (int round = 0; round < 9; ++round) {
    int const victim = round % 3;
    auto ranks = start_ranks({0, 1, 2}, 3, process::new_job(), {"fail", "500"});
    for (auto& r : ranks) { REQUIRE_FALSE(r.line("ready").empty()); }
    ::usleep(std::uniform_int_distribution<useconds_t>{0, 8000}(random));
    auto& stopped = ranks[static_cast<std::size_t>(victim)];
    auto const at = stopped.signal(SIGSTOP);
    for (auto& r : ranks) {
      if (&r == &stopped) { continue; }
      auto const caught = r.line("caught");
      INFO(r.text());
      REQUIRE(caught.size() > 4);
      CHECK(caught[2] == "timeout");
      CHECK(caught[3] == std::to_string(victim));
      CHECK(std::stoull(caught[1]) - at < 1'500'000'000u);
      auto const sticky = r.line("sticky");
      REQUIRE(sticky.size() == 3);
      CHECK(sticky[1] == "timeout");
    }
    stopped.signal(SIGCONT);
    auto const caught = stopped.line("caught");
    INFO(stopped.text());
    REQUIRE(caught.size() > 4);
    CHECK(caught[2] == "timeout");
    CHECK(caught[3] == std::to_string(victim));
    for (auto& r : ranks) {
      check_left_nothing(r);
      CHECK(r.succeeds());
    }
  }
}

TEST_CASE("ranks that go on without a stopped one tell it that it is out", "[serial]") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  auto ranks = start_ranks({0, 1, 2}, 3, process::new_job(), {"reset", "400"});
  for (auto& r : ranks) { REQUIRE_FALSE(r.line("ready").empty()); }
  ranks[1].signal(SIGSTOP);
  for (int r : {0, 2}) {
    auto& rank = ranks[static_cast<std::size_t>(r)];
    auto const again = rank.line("again");
    INFO(rank.text());
    REQUIRE(again.size() == 3);
    CHECK(again[2] == "2");
    CHECK(rank.succeeds());
  }
  ranks[1].signal(SIGCONT);
  CHECK(ranks[1].wait() == W_EXITCODE(3, 0));
  auto const error = ranks[1].line("error");
  INFO(ranks[1].text());
  REQUIRE(error.size() > 2);
  CHECK(error[1] == "stale");
}

TEST_CASE("a rank that returns early, throws or exits is named on the others") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  struct row {
    std::string mode;
    std::string code;
    std::string says;
  };
  row const rows[]{{"early", "left", "rank 1 returned after 1 operations"},
                   {"throw", "rank_failed", "threw: out of coffee"},
                   {"exit", "peer_died", "died: exit code 7"}};
  for (auto const& [mode, code, says] : rows) {
    child job{{TPX_RUN, "-n", "3", PROCESS_PROGRAM, mode}, {}};
    CHECK(job.wait().has_value());
    INFO(job.text());
    std::istringstream in{job.text()};
    int told = 0;
    for (std::string line; std::getline(in, line);) {
      if (!line.starts_with("error ")) { continue; }
      CHECK(line.starts_with("error " + code + " 1 "));
      CHECK(has(line, says));
      ++told;
    }
    CHECK(told == (mode == "throw" ? 3 : 2));
  }
}

TEST_CASE("a rank that never comes is named on all that came") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  struct row {
    std::vector<int> come;
    std::string peer;
    std::string says;
  };
  row const rows[]{{{0, 1, 2}, "3", "rank 3 of 4 did not come within 500 ms"},
                   {{2, 0}, "1", "ranks 1, 3 of 4 did not come within 500 ms"},
                   {{1, 2, 3}, "0", "rank 0 of 4 did not come within 500 ms"}};
  for (auto const& [come, peer, says] : rows) {
    auto const job = process::new_job();
    auto const begun = tpx::detail::now_ns();
    auto ranks = start_ranks(come, 4, job, {"agree", "500"});
    for (auto& r : ranks) {
      CHECK(r.wait() == W_EXITCODE(3, 0));
      INFO(r.text());
      auto const error = r.line("error");
      REQUIRE(error.size() > 3);
      CHECK(error[1] == "timeout");
      CHECK(error[2] == peer);
      CHECK(has(r.text(), says));
    }
    CHECK(tpx::detail::now_ns() - begun < 3'000'000'000u);
    CHECK_FALSE(name_is_left(job));
  }
}

TEST_CASE("rank 0 may come late") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  auto const job = process::new_job();
  auto ranks = start_ranks({1, 2}, 3, job, {"agree"});
  ::usleep(300'000);
  auto last = start_ranks({0}, 3, job, {"agree"});
  CHECK(last[0].succeeds());
  for (auto& r : ranks) { CHECK(r.succeeds()); }
}

/// The start of a job whose ranks are threads of this process, each of which claims what it likes.
struct claim {
  int rank;
  int size;
  std::string job;
};

std::vector<std::string> meet(std::vector<claim> const& claims, int deadline_ms = 500) {
  std::vector<std::string> outcomes(claims.size());
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    threads.emplace_back([&, i] {
      // Rank 0 listens before the others knock, and of two alike the order is fixed.
      ::usleep(static_cast<useconds_t>(20'000 * i));
      try {
        auto const met =
          tpx::detail::rendezvous({"test", claims[i].rank, claims[i].size, claims[i].job}, 1,
                                  std::chrono::milliseconds{deadline_ms});
        outcomes[i] = "met " + std::to_string(met.control->bytes() == sizeof(tpx::control_block));
      } catch (tpx::error const& e) {
        outcomes[i] = std::string{name(e.code())} + ' ' + std::to_string(e.peer()) + ' ' + e.what();
      }
    });
  }
  threads.clear();
  return outcomes;
}

void check_all(std::vector<claim> const& claims, std::string const& code, std::string const& says) {
  auto const outcomes = meet(claims);
  for (auto const& o : outcomes) {
    INFO(o);
    CHECK(o.starts_with(code));
    CHECK(has(o, says));
  }
}

TEST_CASE("ranks that contradict each other while the group starts all learn how") {
  auto const before = process::traces();
  auto const job = process::new_job();
  CHECK(meet({{0, 3, job}, {2, 3, job}, {1, 3, job}}) == words(3, "met 1"));
  check_all({{0, 3, job}, {1, 3, job}, {1, 3, job}}, "mismatch 1 ", "two processes are rank 1");
  check_all({{0, 2, job}, {1, 3, job}}, "mismatch 1 ",
            "was started as one of 3 ranks, rank 0 as one of 2");
  check_all({{0, 3, job}, {1, 3, job}, {3, 3, job}}, "mismatch 3 ", "rank 3 (pid ");
  CHECK(process::traces() == before);
}

TEST_CASE("a second rank 0 is told of the first, which goes on") {
  auto const job = process::new_job();
  auto const outcomes = meet({{0, 2, job}, {0, 2, job}, {1, 2, job}});
  CHECK(outcomes[0] == "met 1");
  CHECK(outcomes[1].starts_with("invalid_argument 0 "));
  CHECK(has(outcomes[1], "this job has a rank 0 already: pid " + std::to_string(::getpid())));
  CHECK(outcomes[2] == "met 1");
}

/// Connects to rank 0's socket as soon as there is one.
tpx::unique_fd knock(tpx::detail::rendezvous_point const& point) {
  tpx::detail::socket_name const name{point.name};
  for (int i = 0; i < 5000; ++i) {
    auto fd = tpx::detail::make_socket();
    if (::connect(fd.get(), name.get(), name.length) == 0) { return fd; }
    ::usleep(1000);
  }
  return {};
}

TEST_CASE("200 hostile messages of the same user change nothing for the ranks") {
  using tpx::detail::rendezvous_message;
  auto const before = process::traces();
  auto const job = process::new_job();
  tpx::detail::rendezvous_point const point{job, 1};
  std::array<std::string, 2> outcomes;
  auto const rank = [&](int r) {
    try {
      auto const met = tpx::detail::rendezvous({"test", r, 2, job}, 1, std::chrono::seconds{60});
      outcomes[static_cast<std::size_t>(r)] =
        met.sockets[static_cast<std::size_t>(1 - r)] ? "met" : "";
    } catch (tpx::error const& e) { outcomes[static_cast<std::size_t>(r)] = e.what(); }
  };
  std::jthread zero{rank, 0};
  std::mt19937 random{7};
  std::vector<tpx::unique_fd> kept;
  int reached = 0;
  for (int round = 0; round < 200; ++round) {
    auto fd = knock(point);
    reached += static_cast<int>(static_cast<bool>(fd));
    std::vector<std::byte> bytes(random() % 2 ? sizeof(rendezvous_message) : random() % 1500);
    for (auto& b : bytes) { b = static_cast<std::byte>(random()); }
    rendezvous_message m;  // a rank's hello, but for one thing
    m.step = tpx::detail::rendezvous_step::hello;
    m.rank = 1;
    m.size = 2;
    std::copy_n(point.job, 2, m.job);
    switch (round % 8) {
      case 0:  // says nothing and goes
        break;
      case 1:
        static_cast<void>(tpx::detail::send_message(fd, bytes));
        break;
      case 2:  // truncated
        static_cast<void>(tpx::detail::send_message(
          fd, std::as_bytes(std::span{&m, 1}).first(random() % (sizeof(m) - 1))));
        break;
      case 3: {  // longer than a message, right at its beginning
        bytes.assign(2 * sizeof(m), std::byte{1});
        std::memcpy(bytes.data(), &m, sizeof(m));
        static_cast<void>(tpx::detail::send_message(fd, bytes));
        break;
      }
      case 4: {  // descriptors that nobody asked for
        std::vector<int> const many(60, STDIN_FILENO);
        m.magic ^= 1;
        static_cast<void>(tpx::detail::send_message(fd, m, many));
        break;
      }
      case 5:  // another job's rank
        m.job[round % 2] ^= 1;
        static_cast<void>(tpx::detail::send_message(fd, m));
        break;
      case 6:  // a step that a rank does not begin with
        m.step = static_cast<tpx::detail::rendezvous_step>(random());
        if (m.step == tpx::detail::rendezvous_step::hello) { m.job[0] ^= 1; }
        static_cast<void>(tpx::detail::send_message(fd, m));
        break;
      default:  // stays and says nothing
        kept.push_back(std::move(fd));
    }
  }
  std::jthread one{rank, 1};
  one.join();
  zero.join();
  kept.clear();
  CHECK(reached == 200);
  CHECK(outcomes[0] == "met");
  CHECK(outcomes[1] == "met");
  CHECK(process::traces() == before);
}

/// Runs f in a child of another user, who goes on until the child is destroyed.
struct foreigner {
  pid_t pid;
  explicit foreigner(auto&& f) : pid{::fork()} {
    if (pid == 0) {
      bool const changed =
        ::setresgid(65534, 65534, 65534) == 0 && ::setresuid(65534, 65534, 65534) == 0;
      if (changed) { f(); }
      ::_exit(changed ? 0 : 1);
    }
  }
  foreigner(foreigner&&) = delete;
  ~foreigner() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
};

TEST_CASE("another user can neither join a job nor pose as its rank 0") {
  if (::geteuid() != 0) { SKIP("only root can become another user"); }
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  auto const before = process::traces();
  {
    auto const job = process::new_job();
    tpx::detail::rendezvous_point const point{job, 1};
    foreigner const other{[&] {
      for (int i = 0; i < 50; ++i) {
        auto const fd = knock(point);
        tpx::detail::rendezvous_message m;
        m.step = tpx::detail::rendezvous_step::hello;
        m.rank = 1;
        m.size = 2;
        std::copy_n(point.job, 2, m.job);
        static_cast<void>(tpx::detail::send_message(fd, m));
      }
    }};
    std::vector<claim> const claims{{0, 2, job}};
    auto const alone = meet(claims);
    INFO(alone[0]);
    CHECK(has(alone[0], "rank 1 of 2 did not come within 500 ms"));
  }
  {
    auto const job = process::new_job();
    tpx::detail::rendezvous_point const point{job, 1};
    int ready[2];
    REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
    foreigner const squatter{[&] {
      tpx::detail::socket_name const name{point.name};
      auto const fd = tpx::detail::make_socket();
      if (::bind(fd.get(), name.get(), name.length) == 0 && ::listen(fd.get(), 8) == 0) {
        char const yes = 'y';
        [[maybe_unused]] auto const n = ::write(ready[1], &yes, 1);
        ::pause();
      }
    }};
    ::close(ready[1]);
    char yes = 0;
    CHECK(::read(ready[0], &yes, 1) == 1);
    ::close(ready[0]);
    check_all({{0, 2, job}, {1, 2, job}}, "io ", "of user 65534 holds the name");
  }
  CHECK(process::traces() == before);
}

}  // namespace
