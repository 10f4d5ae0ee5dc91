// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "process_support.hpp"

#include <tpx/run_ranks.hpp>

#include <catch2/catch_test_macros.hpp>

#include <fstream>
#include <map>
#include <string>

namespace {

using process::child;
using process::variables;
using process::words;

std::optional<tpx::launch> launch_of(std::map<std::string, std::string> const& set) {
  return tpx::launch_from([&](char const* variable) {
    auto const found = set.find(variable);
    return found == set.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal_of(std::map<std::string, std::string> const& set) {
  try {
    static_cast<void>(launch_of(set));
    return "accepted";
  } catch (tpx::error const& e) { return std::string{name(e.code())} + ": " + e.what(); }
}

bool has(std::string const& text, std::string const& part) {
  return text.find(part) != text.npos;
}

TEST_CASE("a launcher's environment gives rank, size and job") {
  struct row {
    std::map<std::string, std::string> set;
    std::string launcher;
    int rank;
    int size;
    std::string job;
  };
  row const rows[]{
    {{{"TPX_RANK", "1"}, {"TPX_WORLD_SIZE", "3"}, {"TPX_JOB", "j"}}, "tpx-run", 1, 3, "j"},
    {{{"RANK", "2"},
      {"WORLD_SIZE", "4"},
      {"LOCAL_RANK", "2"},
      {"LOCAL_WORLD_SIZE", "4"},
      {"MASTER_PORT", "29500"},
      {"TORCHELASTIC_RUN_ID", "none"},
      {"TORCHELASTIC_RESTART_COUNT", "0"}},
     "torchrun",
     2,
     4,
     "torchrun none 29500 0"},
    {{{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_PORT", "1"}}, "torchrun", 0, 1, "torchrun  1 "},
    {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"TPX_JOB", "mine"}}, "torchrun", 0, 2, "mine"},
    {{{"OMPI_COMM_WORLD_RANK", "15"},
      {"OMPI_COMM_WORLD_SIZE", "16"},
      {"OMPI_COMM_WORLD_LOCAL_SIZE", "16"},
      {"PMIX_NAMESPACE", "77"}},
     "Open MPI",
     15,
     16,
     "Open MPI 77"},
    {{{"OMPI_COMM_WORLD_RANK", "0"},
      {"OMPI_COMM_WORLD_SIZE", "1"},
      {"OMPI_MCA_ess_base_jobid", "5"}},
     "Open MPI",
     0,
     1,
     "Open MPI 5"},
    {{{"SLURM_PROCID", "1"},
      {"SLURM_NTASKS", "2"},
      {"SLURM_LOCALID", "1"},
      {"SLURM_JOB_ID", "9"},
      {"SLURM_STEP_ID", "0"},
      {"SLURM_NNODES", "1"}},
     "Slurm",
     1,
     2,
     "Slurm 9.0 "},
    // A step of two tasks in a job of eight on two hosts, all on one of them.
    {{{"SLURM_PROCID", "1"},
      {"SLURM_NTASKS", "8"},
      {"SLURM_STEP_NUM_TASKS", "2"},
      {"SLURM_JOB_ID", "9"},
      {"SLURM_STEP_ID", "3"},
      {"SLURM_NNODES", "2"},
      {"SLURM_STEP_NUM_NODES", "1"}},
     "Slurm",
     1,
     2,
     "Slurm 9.3 "},
  };
  for (auto const& [set, launcher, rank, size, job] : rows) {
    auto const found = launch_of(set);
    REQUIRE(found.has_value());
    CHECK(found->launcher == launcher);
    CHECK(found->rank == rank);
    CHECK(found->size == size);
    CHECK(found->job == job);
  }
}

TEST_CASE("the explicit variables outrank torchrun's, those Open MPI's, and those Slurm's") {
  std::map<std::string, std::string> set{{"SLURM_PROCID", "0"},
                                         {"SLURM_NTASKS", "2"},
                                         {"SLURM_STEP_ID", "0"},
                                         {"SLURM_JOB_ID", "1"},
                                         {"SLURM_NNODES", "1"}};
  CHECK(launch_of(set)->launcher == "Slurm");
  set.insert(
    {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"PMIX_NAMESPACE", "1"}});
  CHECK(launch_of(set)->launcher == "Open MPI");
  set.insert({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1"}});
  CHECK(launch_of(set)->launcher == "torchrun");
  set.insert({{"TPX_RANK", "0"}, {"TPX_WORLD_SIZE", "2"}, {"TPX_JOB", "x"}});
  CHECK(launch_of(set)->launcher == "tpx-run");
}

TEST_CASE("an environment that no launcher made gives no rank") {
  CHECK_FALSE(launch_of({}));
  CHECK_FALSE(launch_of({{"RANK", "3"}}));
  CHECK_FALSE(launch_of({{"WORLD_SIZE", "3"}}));
  CHECK_FALSE(launch_of({{"TPX_JOB", "x"}}));
  // A batch script of Slurm's, which srun did not start.
  CHECK_FALSE(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "1"}}));
}

TEST_CASE("a launcher's environment that makes no sense is refused by variable and value") {
  struct row {
    char const* rank;
    char const* size;
    std::string says;
  };
  row const rows[]{
    {"", "2", "invalid_argument: .*TPX_RANK=\"\" is not a number"},
    {"-1", "2", "invalid_argument: .*TPX_RANK=\"-1\" is not a number"},
    {"+1", "2", "TPX_RANK=\"+1\""},
    {"1x", "2", "TPX_RANK=\"1x\""},
    {" 1", "2", "TPX_RANK=\" 1\""},
    {"0x1", "2", "TPX_RANK=\"0x1\""},
    {"99999999999999999999", "2", "TPX_RANK=\"99999999999999999999\""},
    {"0", "", "TPX_WORLD_SIZE=\"\""},
    {"0", "4294967297", "TPX_WORLD_SIZE=\"4294967297\""},
    {"2", "2", "TPX_RANK=2 and TPX_WORLD_SIZE=2"},
    {"0", "0", "TPX_RANK=0 and TPX_WORLD_SIZE=0"},
    {"0", "17", "TPX_WORLD_SIZE=17"},
  };
  for (auto const& [rank, size, says] : rows) {
    auto const refusal =
      refusal_of({{"TPX_RANK", rank}, {"TPX_WORLD_SIZE", size}, {"TPX_JOB", "j"}});
    INFO(refusal);
    auto const code = says.find(": .*");
    CHECK(has(refusal, code == says.npos ? says : says.substr(code + 4)));
    CHECK(refusal.starts_with(says.ends_with("=17") ? "unsupported" : "invalid_argument"));
  }
  CHECK(has(refusal_of({{"TPX_RANK", "0"}, {"TPX_JOB", "j"}}), "TPX_WORLD_SIZE is not set"));
  CHECK(has(refusal_of({{"TPX_WORLD_SIZE", "2"}}), "TPX_RANK is not set"));
  CHECK(has(refusal_of({{"TPX_RANK", "0"}, {"TPX_WORLD_SIZE", "2"}}), "set TPX_JOB"));
  CHECK(has(refusal_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), "set TPX_JOB"));
  CHECK(has(refusal_of({{"RANK", "x"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1"}}), "RANK=\"x\""));
}

TEST_CASE("a job of several hosts is refused with the way out") {
  std::map<std::string, std::string> const sets[]{
    {{"RANK", "0"}, {"WORLD_SIZE", "8"}, {"LOCAL_WORLD_SIZE", "4"}, {"MASTER_PORT", "1"}},
    {{"OMPI_COMM_WORLD_RANK", "0"},
     {"OMPI_COMM_WORLD_SIZE", "8"},
     {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
     {"PMIX_NAMESPACE", "1"}},
    {{"SLURM_PROCID", "0"},
     {"SLURM_NTASKS", "8"},
     {"SLURM_JOB_ID", "1"},
     {"SLURM_STEP_ID", "0"},
     {"SLURM_NNODES", "2"}},
  };
  for (auto const& set : sets) {
    auto const refusal = refusal_of(set);
    INFO(refusal);
    CHECK(refusal.starts_with("unsupported"));
    CHECK(has(refusal, "several hosts"));
    CHECK(has(refusal, "Nccl"));
  }
}

TEST_CASE("run_ranks starts threads where there is no launcher") {
  std::vector<int> ranks(4);
  tpx::run_ranks(4, [&](tpx::group& g) {
    ranks[static_cast<std::size_t>(g.rank())] = g.processes() ? -1 : g.size();
  });
  CHECK(ranks == std::vector{4, 4, 4, 4});
  auto const caller = std::this_thread::get_id();
  std::thread::id runner;
  int size = 0;
  tpx::run_ranks(0, [&](tpx::group& g) {
    runner = std::this_thread::get_id();
    size = g.size();
  });
  CHECK(size == 1);
  CHECK(runner == caller);
  CHECK_THROWS_AS(tpx::run_ranks(17, [](tpx::group&) {}), tpx::error);
  CHECK_THROWS_AS(tpx::run_ranks(-1, [](tpx::group&) {}), tpx::error);
  CHECK_THROWS_AS(tpx::run_ranks(2, [](tpx::group&) {}, {.deadline = std::chrono::seconds{0}}),
                  tpx::error);
}

/// That `text` has the line of each of `size` ranks, with few descriptors a rank.
void check_agreed(std::string const& text, int size, std::string const& mode = "processes") {
  INFO(text);
  std::set<std::string> ranks;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields{line};
    std::string word;
    std::string said_mode;
    int rank = -1;
    int said_size = 0;
    long descriptors = 0;
    if (!(fields >> word >> rank >> said_size >> said_mode >> descriptors) || word != "agreed") {
      continue;
    }
    ranks.insert(std::to_string(rank));
    CHECK(said_size == size);
    CHECK(said_mode == mode);
  }
  CHECK(ranks.size() == static_cast<std::size_t>(size));
}

TEST_CASE("the same program runs as threads and as processes of tpx-run") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  auto const before = process::traces();
  {
    child threads{{PROCESS_PROGRAM, "agree", "30000", "4"}, {}};
    CHECK(threads.succeeds(60));
    check_agreed(threads.text(), 4, "threads");
  }
  for (int size : {1, 2, 3, 4, 16}) {
    child ranks{{TPX_RUN, "-n", std::to_string(size), PROCESS_PROGRAM, "agree"}, {}};
    CHECK(ranks.succeeds(60));
    check_agreed(ranks.text(), size);
  }
  CHECK(process::traces() == before);
}

TEST_CASE("a rank holds at most three descriptors for each rank of its group") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  for (int size : {2, 5, 16}) {
    auto const job = process::new_job();
    std::vector<int> all;
    for (int r = 0; r < size; ++r) { all.push_back(r); }
    auto ranks = process::start_ranks(all, size, job, {"agree"});
    for (auto& r : ranks) {
      auto const said = r.line("agreed");
      REQUIRE(said.size() == 5);
      CHECK(std::stol(said[4]) - 4 <= 3L * size);  // 3 standard ones, 1 to count them
    }
  }
}

TEST_CASE("run_ranks wants the size that the launcher was told, or none") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  child same{{TPX_RUN, "-n", "2", PROCESS_PROGRAM, "agree", "30000", "2"}, {}};
  CHECK(same.succeeds());
  child other{{TPX_RUN, "-n", "2", PROCESS_PROGRAM, "agree", "30000", "3"}, {}};
  CHECK(other.wait() == W_EXITCODE(3, 0));
  CHECK(has(other.text(), "the program wants 3 ranks, but tpx-run started 2"));
}

TEST_CASE("ranks that torchrun or srun started find each other by their environment") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  auto const start = [](std::vector<variables> const& environments) {
    std::vector<child> ranks;
    for (auto const& e : environments) { ranks.emplace_back(words{PROCESS_PROGRAM, "agree"}, e); }
    std::string text;
    for (auto& r : ranks) {
      CHECK(r.succeeds());
      text += r.text();
    }
    check_agreed(text, 2);
  };
  auto const id = process::new_job();
  std::vector<variables> torchrun;
  std::vector<variables> slurm;
  for (std::string rank : {"0", "1"}) {
    torchrun.push_back({{"RANK", rank},
                        {"WORLD_SIZE", "2"},
                        {"LOCAL_RANK", rank},
                        {"LOCAL_WORLD_SIZE", "2"},
                        {"MASTER_PORT", "29500"},
                        {"TORCHELASTIC_RUN_ID", id}});
    slurm.push_back({{"SLURM_PROCID", rank},
                     {"SLURM_NTASKS", "2"},
                     {"SLURM_LOCALID", rank},
                     {"SLURM_JOB_ID", id},
                     {"SLURM_STEP_ID", "0"},
                     {"SLURM_NNODES", "1"}});
  }
  start(torchrun);
  start(slurm);
}

TEST_CASE("ranks that Open MPI's mpirun started find each other by their environment") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  child probe{{"mpirun", "--version"}, {}};
  if (!probe.succeeds() || !has(probe.text(), "Open MPI")) { SKIP("no mpirun of Open MPI here"); }
  child ranks{{"mpirun", "--oversubscribe", "-np", "3", PROCESS_PROGRAM, "agree"},
              {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}}};
  CHECK(ranks.succeeds(60));
  check_agreed(ranks.text(), 3);
}

TEST_CASE("tpx-run ends as its first failing rank did, and names it") {
  struct row {
    words command;
    int status;
    std::string says;
  };
  row const rows[]{
    {{"sh", "-c", "exit 0"}, 0, ""},
    {{"sh", "-c", "exit $((TPX_RANK * 5))"}, 5, "rank 1 (pid "},
    {{"sh", "-c", "if [ $TPX_RANK = 1 ]; then kill -9 $$; fi"}, 137, "failed: signal 9 (SIGKILL)"},
    {{"/does/not/exist"}, 127, "cannot start /does/not/exist: No such file"},
    {{"/"}, 126, "cannot start /: Permission denied"},
    {{"sh", "-c", "if [ $TPX_RANK = 1 ]; then exit 4; fi; exec sleep 60"}, 4, "ending 1 rank(s)"},
    {{"sh", "-c", "if [ $TPX_RANK = 1 ]; then exit 4; fi; trap '' TERM; exec sleep 60"},
     4,
     "killing 1 rank(s)"},
  };
  for (auto const& [command, status, says] : rows) {
    words all{TPX_RUN, "-n", "2", "--grace", "0.2"};
    all.insert(all.end(), command.begin(), command.end());
    child job{all, {}};
    auto const ended = job.wait();
    INFO(job.text());
    REQUIRE(ended.has_value());
    CHECK(WIFEXITED(*ended));
    CHECK(WEXITSTATUS(*ended) == status);
    CHECK(has(job.text(), says));
  }
}

TEST_CASE("tpx-run passes arguments and output on untouched, or labelled") {
  child plain{{TPX_RUN, "-n1", "printf", "%s|", "-n", "--help", "a b", "--", ""}, {}};
  CHECK(plain.succeeds());
  CHECK(plain.text() == "-n|--help|a b|--||");
  child labelled{{TPX_RUN, "--ranks=2", "-l", "--", "sh", "-c", "echo one; printf two >&2"}, {}};
  CHECK(labelled.succeeds());
  for (char const* line : {"[0] one\n", "[1] one\n", "[0] two\n", "[1] two\n"}) {
    CHECK(has(labelled.text(), line));
  }
  child help{{TPX_RUN, "--help"}, {}};
  CHECK(help.succeeds());
  CHECK(help.text().starts_with("usage: tpx-run -n RANKS"));
}

TEST_CASE("tpx-run refuses wrong use with one line and status 2") {
  std::vector<words> const wrong{{},
                                 {"-n"},
                                 {"-n", "0", "true"},
                                 {"-n", "17", "true"},
                                 {"-n", "2"},
                                 {"--bad"},
                                 {"-n", "x", "true"},
                                 {"true"},
                                 {"-n", "2", "--grace", "-1", "true"}};
  for (auto const& arguments : wrong) {
    words all{TPX_RUN};
    all.insert(all.end(), arguments.begin(), arguments.end());
    child job{all, {}};
    CHECK(job.wait() == W_EXITCODE(2, 0));
    INFO(job.text());
    CHECK(job.text().starts_with("tpx-run: "));
    CHECK(std::count(job.text().begin(), job.text().end(), '\n') == 1);
  }
}

bool alive(std::string const& pid) {
  return ::kill(std::stoi(pid), 0) == 0;
}

TEST_CASE("tpx-run passes signals on, and no rank outlives it") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  for (int number : {SIGTERM, SIGINT, SIGKILL}) {
    child job{{TPX_RUN, "-n", "2", PROCESS_PROGRAM, "sleep"}, {}};
    while (std::count(job.text().begin(), job.text().end(), '\n') < 2) {
      REQUIRE_FALSE(job.line("asleep").empty());
      static_cast<void>(job.line("nothing", 0.05));
    }
    std::istringstream in{job.text()};
    words pids;
    for (std::string w, pid; in >> w >> pid;) { pids.push_back(pid); }
    REQUIRE(pids.size() == 2);
    job.signal(number);
    auto const status = job.wait();
    REQUIRE(status.has_value());
    CHECK((number == SIGKILL ? WTERMSIG(*status) : WEXITSTATUS(*status) - 128) == number);
    // The kernel ends the ranks of a killed tpx-run.
    for (int i = 0; i < 500 && (alive(pids[0]) || alive(pids[1])); ++i) { ::usleep(10'000); }
    CHECK_FALSE(alive(pids[0]));
    CHECK_FALSE(alive(pids[1]));
  }
}

TEST_CASE("a process that joins and leaves 20 groups keeps nothing of them") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  auto ranks = process::start_ranks({0, 1, 2}, 3, process::new_job(), {"often", "30000", "20"});
  for (auto& r : ranks) {
    CHECK(r.succeeds(60));
    INFO(r.text());
    auto const left = r.line("left");
    REQUIRE(left.size() == 4);
    CHECK(left[1] == "0");
    if (!process::address_sanitizer) { CHECK(left[2] == "0"); }
    CHECK(left[3] == "0");
  }
}

TEST_CASE("a child made by fork() is no rank, and its parent goes on") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  auto ranks = process::start_ranks({0, 1}, 2, process::new_job(), {"fork"});
  for (auto& r : ranks) {
    CHECK(r.succeeds());
    INFO(r.text());
    CHECK_FALSE(r.line("forked").empty());
  }
}

TEST_CASE("TPX_DEBUG writes dated lines to TPX_DEBUG_FILE, and nothing when off") {
  if (process::thread_sanitizer) { SKIP("ThreadSanitizer sees one process"); }
  namespace fs = std::filesystem;
  auto const folder = fs::current_path() / ("log-test-" + std::to_string(::getpid()));
  fs::create_directory(folder);
  auto const file = (folder / "rank-%p.log").string();
  auto const run = [&](variables const& debug) {
    auto const job = process::new_job();
    std::vector<child> ranks;
    for (int r : {0, 1}) {
      auto set = process::rank_of(job, r, 2);
      set.insert(set.end(), debug.begin(), debug.end());
      ranks.emplace_back(words{PROCESS_PROGRAM, "agree"}, set);
    }
    std::string text;
    for (auto& r : ranks) {
      CHECK(r.succeeds());
      text += r.text();
    }
    return text;
  };
  auto const quiet = run({{"TPX_DEBUG_FILE", file}});
  CHECK(fs::is_empty(folder));
  CHECK_FALSE(has(quiet, "info"));
  run({{"TPX_DEBUG", "3"}, {"TPX_DEBUG_FILE", file}});
  int files = 0;
  for (auto const& entry : fs::directory_iterator{folder}) {
    ++files;
    std::ifstream in{entry.path()};
    std::string line;
    bool group = false;
    while (std::getline(in, line)) {
      INFO(line);
      CHECK(line.size() > 40);
      CHECK(line.substr(10, 1) == "T");
      CHECK(line.substr(26, 6) == "Z tpx ");
      CHECK_FALSE(has(line, " trace: "));
      auto const pid = entry.path().stem().string().substr(5);
      CHECK(has(line, " " + pid + " "));
      group = group || has(line, "info: group: one of 2 processes");
    }
    CHECK(group);
  }
  CHECK(files == 2);
  CHECK(has(run({{"TPX_DEBUG", "trace"}}), " trace: rendezvous: all ranks are ready"));
  fs::remove_all(folder);
}

TEST_CASE("TPX_DEBUG takes a number or a word, and anything else is off") {
  using tpx::log_level;
  using tpx::detail::log_level_from;
  CHECK(log_level_from(nullptr) == log_level::off);
  CHECK(log_level_from("") == log_level::off);
  CHECK(log_level_from("0") == log_level::off);
  CHECK(log_level_from("1") == log_level::error);
  CHECK(log_level_from("4") == log_level::trace);
  CHECK(log_level_from("warn") == log_level::warn);
  CHECK(log_level_from("5") == log_level::off);
  CHECK(log_level_from("33") == log_level::off);
}

TEST_CASE("a line that is off is not even composed") {
  bool composed = false;
  tpx::log(tpx::log_level::trace, 0, [&] {
    composed = true;
    return std::string{};
  });
  CHECK_FALSE(composed);
}

}  // namespace
