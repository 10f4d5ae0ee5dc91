// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Ranks that never launch, come late, abort, call something else or die while kernels wait. What
// must hold: every live rank gets an error in time, its context works, and after reset() so does
// the group.
#define PROCESS_PROGRAM "fault_program"
#include "process_support.hpp"
#include "work.cuh"

#include <tpx/protocol/add_rms_norm.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <barrier>
#include <random>
#include <thread>

namespace {

using namespace gpus;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

using some_communicators =
  std::tuple<communicator<PeerDirect, Auto>, communicator<HostPinned, Auto>,
             communicator<PeerDirect, Ring>, communicator<HostPinned, Tree>>;

/// What a rank met, and when, counted from the moment that all ranks were ready.
struct outcome {
  errc code = errc::ok;
  int peer = -1;
  std::string what;
  std::chrono::milliseconds after{};
};

/// A test's ranks: what they met, and what else is wrong.
struct report {
  explicit report(int n) : met(static_cast<std::size_t>(n)) {}
  std::vector<outcome> met;
  notes wrong;
};

/// Waits for what others did wrong; 3 s longer than it may take.
template <class Comm>
void wait_for_an_error(group& g, Comm& comm, std::chrono::milliseconds limit) {
  auto const until = clock::now() + limit + 3s;
  while (clock::now() < until) {
    comm.check();
    std::this_thread::sleep_for(1ms);
  }
  throw error{errc::ok, "heard of no error", {.rank = g.rank()}};
}

/// Does once what takes its time, and must not count against a short deadline.
template <class Comm>
void warm_up(int n) {
  static std::array<bool, max_ranks + 1> done{};
  if (std::exchange(done[static_cast<std::size_t>(n)], true)) { return; }
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    worker const mine{stream};
    Comm comm{g, fitting(n)};
    mine.reduce_many(comm, 50);
  });
}

/// Ranks meet here before reset(), which leaves out who comes late; also if one of them throws.
class meeting {
 public:
  explicit meeting(std::barrier<>& all) : all_{all} {}
  meeting(meeting&&) = delete;
  ~meeting() {
    if (!met_) { all_.arrive_and_drop(); }
  }
  void meet() {
    met_ = true;
    all_.arrive_and_wait();
  }

 private:
  std::barrier<>& all_;
  bool met_ = false;
};

/// On n thread ranks: some good calls; then fault(group, comm, worker, stream), of which an error
/// is expected on every rank; then, after reset(), 1,000 good calls. Ranks for whom fault() returns
/// false have left.
template <class Comm, class F>
void with_fault(report& r, int n, std::chrono::milliseconds deadline, F fault) {
  warm_up<Comm>(n);
  std::barrier<> all{n};
  on_gpus(
    n,
    [&](group& g, cudaStream_t stream) {
      meeting before_reset{all};
      worker const mine{stream};
      auto& met = r.met[static_cast<std::size_t>(g.rank())];
      auto begun = clock::now();
      try {
        Comm comm{g, fitting(n)};
        mine.reduce_many(comm, 20);
        g.exchange(1);
        begun = clock::now();
        if (!fault(g, comm, mine, stream)) { return; }
        sync(stream);
        wait_for_an_error(g, comm, deadline);
      } catch (error const& e) {
        met = {e.code(), e.peer(), e.what(),
               std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - begun)};
      }
      auto const bad = mine.wrong();  // sums that an abort cut short
      if (auto const text = mine.context(); !text.empty()) { r.wrong.add("context: " + text); }
      before_reset.meet();
      g.reset();
      Comm again{g, fitting(n)};
      mine.reduce_many(again, 1000);
      if (mine.wrong() != bad) { r.wrong.add("wrong sums after reset()"); }
    },
    deadline);
}

/// "" if every rank met `code` in time, by the fault of `culprit`; of two ranks that differ, either
/// may be blamed.
std::string judge(report const& r, errc code, int culprit, std::chrono::milliseconds limit,
                  bool exact) {
  std::string wrong = r.wrong.all();
  for (std::size_t i = 0; i < r.met.size(); ++i) {
    auto const& m = r.met[i];
    bool const named = exact ? m.peer == culprit : m.peer >= 0;
    if (m.code != code || !named || m.after > limit + 1s) {
      wrong += "rank " + std::to_string(i) + " of " + std::to_string(r.met.size()) + ", culprit " +
               std::to_string(culprit) + ", after " + std::to_string(m.after.count()) +
               " ms: " + std::string{name(m.code)} + ", peer " + std::to_string(m.peer) + ": " +
               m.what + '\n';
    }
  }
  return wrong;
}

/// Whether every wait is for the rank that is late itself, not for one that waits in turn.
template <class Comm>
constexpr bool direct = Comm::topology_type::flat;

/// World sizes, each with the rank that does wrong.
std::vector<std::pair<int, int>> culprits() {
  auto const most = worlds(2).back();
  std::vector<std::pair<int, int>> all{{2, 1}, {3, 0}};
  if (most > 3) { all.emplace_back(most, most - 1); }
  return all;
}

}  // namespace

/// Skips what makes its own ranks: threads, or processes that it starts.
#define NEED_THREADS() \
  NEED_GPUS(2);        \
  if (gpus::job() || gpus::number_in("TPX_TEST_RANKS") != 0) { SKIP("chooses its own ranks"); }

TEMPLATE_LIST_TEST_CASE("a rank that never launches is named within the deadline and a second",
                        "[cuda]", some_communicators) {
  NEED_THREADS();
  std::string wrong;
  constexpr auto deadline = 500ms;
  for (auto const& [n, culprit] : culprits()) {
    report r{n};
    with_fault<TestType>(r, n, deadline, [&](group& g, auto& comm, worker const& mine, auto) {
      if (g.rank() != culprit) { mine.reduce(comm, 3000, 1); }
      return true;
    });
    wrong += judge(r, errc::timeout, culprit, deadline, direct<TestType> || n == 2);
    for (auto const& m : r.met) {
      if (m.after < deadline) { wrong += "before the deadline: " + m.what + '\n'; }
    }
  }
  REQUIRE(wrong == "");
}

TEST_CASE("a rank that never launches is named by those that want its part of rows", "[cuda]") {
  NEED_THREADS();
  using rows_of = communicator<PeerDirect, Auto>;
  std::string wrong;
  constexpr auto deadline = 500ms;
  constexpr std::size_t columns = 8192;
  for (auto const& [n, culprit] : culprits()) {
    report r{n};
    with_fault<rows_of>(r, n, deadline, [&](group& g, auto& comm, worker const& mine, auto stream) {
      auto const in = mine.in();
      auto const out = mine.out();
      add_rms_norm const norm{in.data() + in.size() / 2, in.data(), out.data() + out.size() / 2,
                              columns};
      for (std::size_t const rows : {1, 40}) {
        if (g.rank() == culprit) { break; }
        auto const size = rows * columns;
        allreduce(comm, in.first(size), out.first(size), Sum{}, norm, stream);
      }
      return true;
    });
    wrong += judge(r, errc::timeout, culprit, deadline, true);
  }
  REQUIRE(wrong == "");
}

TEMPLATE_LIST_TEST_CASE("a rank that is late, but within the deadline, is waited for", "[cuda]",
                        some_communicators) {
  NEED_THREADS();
  notes found;
  for (auto const& [n, culprit] : culprits()) {
    warm_up<TestType>(n);
    on_gpus(
      n,
      [&](group& g, cudaStream_t stream) {
        worker const mine{stream};
        TestType comm{g, fitting(n)};
        for (std::size_t const size : {std::size_t{1}, worker::most}) {
          if (g.rank() == culprit) { std::this_thread::sleep_for(400ms); }
          mine.reduce(comm, size, size);
          settle(comm, stream);
        }
        if (mine.wrong() != 0) { found.add("wrong sums"); }
        g.exchange(1);
      },
      1000ms);
  }
  REQUIRE(found.all() == "");
}

TEMPLATE_LIST_TEST_CASE("a rank that comes past the deadline learns of it and changes nothing",
                        "[cuda]", some_communicators) {
  NEED_THREADS();
  std::string wrong;
  constexpr auto deadline = 400ms;
  for (auto const& [n, culprit] : culprits()) {
    report r{n};
    with_fault<TestType>(r, n, deadline, [&](group& g, auto& comm, worker const& mine, auto) {
      if (g.rank() == culprit) { std::this_thread::sleep_for(deadline + 150ms); }
      mine.reduce(comm, 3000, 1);
      return true;
    });
    wrong += judge(r, errc::timeout, culprit, deadline, direct<TestType> || n == 2);
  }
  REQUIRE(wrong == "");
}

TEMPLATE_LIST_TEST_CASE("an abort ends replayed graphs at once, and replays after it too", "[cuda]",
                        some_communicators) {
  NEED_THREADS();
  std::string wrong;
  std::mt19937 random{20'250'601};
  for (auto const& [n, culprit] : culprits()) {
    for (int round = 0; round < 3; ++round) {
      auto const moment = std::chrono::microseconds{random() % 3000};
      report r{n};
      with_fault<TestType>(
        r, n, 20s, [&](group& g, auto& comm, worker const& mine, cudaStream_t stream) {
          graph const replayed{stream, [&] {
                                 for (std::uint64_t i = 0; i < 20; ++i) {
                                   mine.reduce(comm, i % 4 == 0 ? worker::most : 1000, i);
                                 }
                               }};
          g.exchange(1);
          auto const begun = clock::now();
          try {
            while (true) {
              replayed.launch(stream);
              if (g.rank() == culprit && clock::now() - begun > moment) {
                g.abort(errc::rank_failed, "on purpose");
              }
              settle(comm, stream);
            }
          } catch (error const&) {
            sync(stream);
            auto const at = clock::now();
            replayed.launch(stream);
            sync(stream);
            if (clock::now() - at > 200ms) { r.wrong.add("a replay after the abort waited"); }
            throw;
          }
          return true;
        });
      wrong += judge(r, errc::rank_failed, culprit, 0ms, true);
    }
  }
  REQUIRE(wrong == "");
}

TEMPLATE_LIST_TEST_CASE("another size, operation or collective is an error on every GPU", "[cuda]",
                        some_communicators) {
  NEED_THREADS();
  std::string wrong;
  constexpr auto deadline = 500ms;
  for (auto const& [n, culprit] : culprits()) {
    for (int kind = 0; kind < 4; ++kind) {
      report r{n};
      with_fault<TestType>(r, n, deadline,
                           [&](group& g, auto& comm, worker const& mine, cudaStream_t stream) {
                             bool const odd = g.rank() == culprit;
                             auto const x = mine.in().first(odd && kind == 0   ? 3000
                                                            : odd && kind == 1 ? 500'000
                                                                               : 2999);
                             if (odd && kind == 2) {
                               allreduce(comm, x, Max{}, stream);
                             } else if (odd && kind == 3) {
                               barrier(comm, stream);
                             } else {
                               allreduce(comm, x, Sum{}, stream);
                             }
                             return true;
                           });
      // Where a barrier has flags of its own, nobody hears what the other called.
      bool const unheard = kind == 3 && r.met[0].code == errc::timeout;
      wrong += judge(r, unheard ? errc::timeout : errc::mismatch, culprit, deadline, false);
      for (auto const& m : r.met) {
        bool const says = m.what.find("rank " + std::to_string(culprit)) != m.what.npos;
        if (!unheard && !says) { wrong += "does not say who: " + m.what + '\n'; }
      }
    }
  }
  REQUIRE(wrong == "");
}

TEST_CASE("a rank that leaves is named on the GPUs that wait for it, which go on without it",
          "[cuda]") {
  NEED_THREADS();
  std::string wrong;
  constexpr auto deadline = 500ms;
  for (auto const& [n, culprit] : culprits()) {
    report r{n};
    with_fault<communicator<PeerDirect, Auto>>(
      r, n, deadline, [&](group& g, auto& comm, worker const& mine, cudaStream_t stream) {
        if (g.rank() == culprit) {
          g.leave();
          return false;
        }
        mine.reduce(comm, 3000, 1);
        sync(stream);
        return true;
      });
    r.met[static_cast<std::size_t>(culprit)] = {r.met[culprit == 0 ? 1 : 0].code, culprit, "", {}};
    auto const code = r.met[0].code == errc::left ? errc::left : errc::timeout;
    wrong += judge(r, code, culprit, deadline, true);
  }
  REQUIRE(wrong == "");
}

TEST_CASE(
  "a veto on peer access is the same error on every rank, HostPinned works and Auto takes it",
  "[cuda]") {
  NEED_GPUS(2);
  notes found;
  ::setenv("TPX_P2P_VETO", "0-1", 1);
  for (int const n : worlds(2)) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      worker const mine{stream};
      try {
        communicator<PeerDirect> comm{g, fitting(n)};
        found.add("was made all the same");
      } catch (error const& e) {
        if (e.code() != errc::unsupported) { found.add(e.what()); }
      }
      communicator<HostPinned> comm{g, fitting(n)};
      mine.reduce_many(comm, 1000);
      communicator<Auto> other{g, fitting(n)};
      mine.reduce_many(other, 1000);
      if (mine.wrong() != 0) { found.add("wrong sums"); }
      if (other.transport() != "HostPinned") { found.add("Auto chose another transport"); }
      g.exchange(1);
    });
  }
  ::unsetenv("TPX_P2P_VETO");
  REQUIRE(found.all() == "");
}

TEST_CASE("out of memory on one GPU is the same error on every rank, and reset() mends it",
          "[cuda]") {
  NEED_GPUS(2);
  if (count() < 2) { SKIP("needs two GPUs"); }
  notes found;
  int const n = std::min(count(), 4);
  on_gpus(n, [&](group& g, cudaStream_t stream) {
    worker const mine{stream};
    std::vector<void*> hogs;
    if (g.rank() == n - 1) {
      for (std::size_t bytes = std::size_t{32} << 30; bytes >= std::size_t{1} << 20; bytes /= 2) {
        void* hog = nullptr;
        while (cudaMalloc(&hog, bytes) == cudaSuccess) { hogs.push_back(hog); }
        static_cast<void>(cudaGetLastError());
      }
    }
    g.exchange(1);
    try {
      communicator<PeerDirect> comm{g};
      found.add("was made all the same");
    } catch (error const& e) {
      bool const named = e.peer() == n - 1 || g.rank() == n - 1;
      if (e.code() != errc::out_of_memory || !named) { found.add(e.what()); }
    }
    for (void* hog : hogs) { cuda_check(cudaFree(hog), "freeing"); }
    if (auto const text = mine.context(); !text.empty()) { found.add(text); }
    g.reset();
    communicator<PeerDirect> comm{g};
    mine.reduce_many(comm, 1000);
    if (mine.wrong() != 0) { found.add("wrong sums"); }
    g.exchange(2);
  });
  REQUIRE(found.all() == "");
}

TEST_CASE("a call on another device than the communicator's is refused, and the next one works",
          "[cuda]") {
  NEED_GPUS(2);
  if (count() < 2) { SKIP("needs two GPUs"); }
  notes found;
  on_gpus(2, [&](group& g, cudaStream_t stream) {
    worker const mine{stream};
    communicator<PeerDirect> comm{g};
    cuda_check(cudaSetDevice(1 - g.rank()), "choosing a GPU");
    try {
      allreduce(comm, mine.in().first(10), Sum{}, stream);
      found.add("was accepted");
    } catch (error const& e) {
      if (e.code() != errc::invalid_argument) { found.add(e.what()); }
    }
    cuda_check(cudaSetDevice(g.rank()), "choosing a GPU");
    mine.reduce_many(comm, 100);
    if (mine.wrong() != 0) { found.add("wrong sums"); }
    g.exchange(1);
  });
  REQUIRE(found.all() == "");
}

namespace {

using process::child;
using process::words;

std::string program() {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "fault_program").string();
}

std::vector<child> start(int n, words const& arguments) {
  auto const job = process::new_job();
  words command{program()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<child> ranks;
  for (int r = 0; r < n; ++r) {
    auto variables = process::rank_of(job, r, n);
    variables.emplace_back("TPX_ALLOW_SHARED_GPU", "1");
    ranks.emplace_back(command, variables);
  }
  return ranks;
}

/// Whether a rank that lives on got the code by the fault of `victim`, has a context that works,
/// and was right 1,000 times after reset(). When it heard, in ms after `at`.
double check_survivor(child& rank, std::string const& code, int victim, int r, int n,
                      std::uint64_t at) {
  auto const caught = rank.line("caught", 40);
  INFO("rank " << r << " of " << n << ", victim " << victim << ": " << rank.text());
  REQUIRE(caught.size() > 4);
  CHECK(caught[2] == code);
  CHECK(caught[3] == std::to_string(victim));
  auto const context = rank.line("context");
  REQUIRE(context.size() == 2);
  CHECK(context[1] == "works");
  auto const again = rank.line("again", 60);
  REQUIRE(again.size() == 4);
  CHECK(again[1] == std::to_string(r - static_cast<int>(r > victim)));
  CHECK(again[2] == std::to_string(n - 1));
  CHECK(rank.succeeds(60));
  auto const heard = std::stoull(caught[1]);
  return heard < at ? 0.0 : static_cast<double>(heard - at) / 1e6;
}

/// Kills one of n ranks while its kernels run.
std::vector<double> kill_one(int n, int victim, std::string const& transport, unsigned after_us) {
  auto ranks = start(n, {transport, "none", "20000"});
  for (auto& rank : ranks) {
    auto const ready = rank.line("ready", 60);
    INFO(rank.text());
    REQUIRE_FALSE(ready.empty());
  }
  ::usleep(after_us);
  auto const at = ranks[static_cast<std::size_t>(victim)].signal(SIGKILL);
  std::vector<double> took;
  for (int r = 0; r < n; ++r) {
    if (r == victim) { continue; }
    took.push_back(
      check_survivor(ranks[static_cast<std::size_t>(r)], "peer_died", victim, r, n, at));
  }
  return took;
}

void kill_many(int times, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<double> took;
  for (int i = 0; i < times; ++i) {
    int const n = i % 4 < 2 ? 2 : std::clamp(count(), 2, 4);
    auto const victim = static_cast<int>(random() % static_cast<unsigned>(n));
    auto const these =
      kill_one(n, victim, i % 2 == 0 ? "peer" : "host", static_cast<unsigned>(random() % 30'000));
    took.insert(took.end(), these.begin(), these.end());
  }
  std::sort(took.begin(), took.end());
  WARN("a death was seen by " << took.size() << " ranks on GPUs: median " << took[took.size() / 2]
                              << " ms, all within " << took.back() << " ms");
  CHECK(took.back() < 1'000);
}

}  // namespace

TEST_CASE("a process that is killed mid-kernel is named on every other rank, which go on",
          "[cuda]") {
  NEED_THREADS();
  kill_many(4, 20'250'602);
}

TEST_CASE("200 processes killed mid-kernel are named, and the others go on", "[.][cuda][long]") {
  NEED_THREADS();
  kill_many(200, std::random_device{}());
}

TEST_CASE("a device error ends the group, and the other processes' contexts work", "[cuda]") {
  NEED_THREADS();
  int const n = std::clamp(count(), 2, 3);
  for (std::string const transport : {"peer", "host"}) {
    auto ranks = start(n, {transport, "illegal", "20000"});
    for (int r = 0; r < n; ++r) {
      auto& rank = ranks[static_cast<std::size_t>(r)];
      if (r == 1) { continue; }
      check_survivor(rank, "cuda", 1, r, n, 0);
    }
    auto const failed = ranks[1].line("error", 30);
    INFO(ranks[1].text());
    REQUIRE(failed.size() > 2);
    CHECK(failed[1] == "cuda");
    CHECK(ranks[1].wait(30) == W_EXITCODE(3, 0));
  }
}

TEST_CASE("a process that exits between calls is named on every other rank, which go on",
          "[cuda]") {
  NEED_THREADS();
  auto ranks = start(2, {"peer", "exit", "20000"});
  check_survivor(ranks[0], "peer_died", 1, 0, 2, 0);
}
