// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <getopt.h>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// What the command line says. The letters are those of nccl-tests.
struct options {
  std::size_t begin = std::size_t{8} << 10;
  std::size_t end = std::size_t{256} << 20;
  int factor = 2;
  int ranks = 0;  // 0: one for each GPU
  std::string dtype = "bfloat16";
  int replays = 0;  // 0: 100, and 50 above 16 MB
  int warm_up = 5;
  int ops = 0;  // in a graph; 0: 20, and 4 above 16 MB
  std::string transport = "peer";
  std::string topology = "auto";
  std::string epilogue = "none";
  std::size_t columns = 8192;
  std::string baseline;
  std::string csv;
  std::string json;
  std::size_t max_bytes = std::size_t{8} << 20;
  std::size_t one_shot = 0;
  int blocks = 0;   // 0: the library's
  double link = 0;  // GB/s; 0: by transport
  std::size_t offset = 0;
  int root = 0;
  bool eager = false;
  bool peers = false;
  bool in_place = false;
  bool check = true;
  std::string command;  // as it was typed

  [[nodiscard]] int ops_of(std::size_t bytes) const {
    if (eager) { return 1; }
    return ops != 0 ? ops : bytes > (std::size_t{16} << 20) ? 4 : 20;
  }
  [[nodiscard]] int replays_of(std::size_t bytes) const {
    return replays != 0 ? replays : bytes > (std::size_t{16} << 20) ? 50 : 100;
  }
};

inline constexpr std::string_view usage =
  R"(  -b, --begin BYTES      smallest message, K M G allowed   [8K]
  -e, --end BYTES        largest message                    [256M]
  -f, --factor N         from size to size                  [2]
  -g, --ranks N          ranks, one thread and GPU each     [all GPUs]
  -d, --dtype TYPE       bfloat16 half float double int32 int8 [bfloat16]
  -n, --replays N        graph replays that are timed       [100; 50 above 16M]
  -w, --warm-up N        replays before                     [5]
      --ops N            operations in a graph              [20; 4 above 16M]
      --transport T      peer (GPU to GPU) or host (pinned memory) [peer]
      --topology T       auto all ring tree                 [auto]
      --eager            time one call between two events after a barrier, no graph
      --peers            NCCL too, in the same process, replays taken in turn
      --baseline NAME    exllamav2: its host-staged chain too (all-reduce only)
      --epilogue E       none add rmsnorm rmsnorm-fp8: adds a row with a residual added in the
                         all-reduce, and its rows of --columns normed, as they are or as float8_e4m3
      --columns N        of --epilogue rmsnorm              [8192]
      --root N           of broadcast and gather            [0]
      --in-place         input and output are the same memory
      --offset N         begin the arrays N elements after an aligned address [0]
      --check 0|1        verify every row's output          [1]
      --max-bytes BYTES  the communicator's                 [8M]
      --one-shot BYTES   its tuning: largest one-shot all-reduce, 0: the library's [0]
      --blocks N         its tuning: most blocks, 0: the library's [0]
      --link GB/S        what the last columns' share is of [peer 396, host 52]
      --csv FILE         append the table to FILE
      --json FILE        write the table to FILE
)";

inline std::size_t size_from(std::string_view text, std::string_view flag) {
  std::string const copy{text};
  char* rest = nullptr;
  auto value = static_cast<std::size_t>(std::strtoull(copy.c_str(), &rest, 10));
  std::string_view const suffix{rest};
  auto const unit =
    suffix.empty() ? std::string_view::npos : std::string_view{"KMG"}.find(suffix[0]);
  bool const digit = !copy.empty() && copy[0] >= '0' && copy[0] <= '9';
  tpx::expects(digit && (suffix.empty() || (unit != std::string_view::npos && suffix.size() == 1)),
               std::string{flag} + ": '" + copy + "' is no number", "write 8192, 8K, 4M or 1G");
  if (!suffix.empty()) { value <<= 10 * (unit + 1); }
  return value;
}

inline void expect_one_of(std::string_view flag, std::string const& value,
                          std::vector<std::string_view> const& allowed) {
  std::string all;
  for (auto a : allowed) { all += (all.empty() ? "" : ", ") + std::string{a}; }
  tpx::expects(std::find(allowed.begin(), allowed.end(), value) != allowed.end(),
               std::string{flag} + ": '" + value + "' is not known", "one of: " + all);
}

/// Reads the command line; false if it asked for help. Errors: invalid_argument.
inline bool parse(int argc, char** argv, options& o) {
  enum {
    ops = 1000,
    transport,
    topology,
    eager,
    peers,
    baseline,
    epilogue,
    columns,
    root,
    in_place,
    offset,
    check,
    max_bytes,
    one_shot,
    blocks,
    link,
    csv,
    json
  };
  static option const flags[] = {{"begin", required_argument, nullptr, 'b'},
                                 {"end", required_argument, nullptr, 'e'},
                                 {"factor", required_argument, nullptr, 'f'},
                                 {"ranks", required_argument, nullptr, 'g'},
                                 {"dtype", required_argument, nullptr, 'd'},
                                 {"replays", required_argument, nullptr, 'n'},
                                 {"warm-up", required_argument, nullptr, 'w'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {"ops", required_argument, nullptr, ops},
                                 {"transport", required_argument, nullptr, transport},
                                 {"topology", required_argument, nullptr, topology},
                                 {"eager", no_argument, nullptr, eager},
                                 {"peers", no_argument, nullptr, peers},
                                 {"baseline", required_argument, nullptr, baseline},
                                 {"epilogue", required_argument, nullptr, epilogue},
                                 {"columns", required_argument, nullptr, columns},
                                 {"root", required_argument, nullptr, root},
                                 {"in-place", no_argument, nullptr, in_place},
                                 {"offset", required_argument, nullptr, offset},
                                 {"check", required_argument, nullptr, check},
                                 {"max-bytes", required_argument, nullptr, max_bytes},
                                 {"one-shot", required_argument, nullptr, one_shot},
                                 {"blocks", required_argument, nullptr, blocks},
                                 {"link", required_argument, nullptr, link},
                                 {"csv", required_argument, nullptr, csv},
                                 {"json", required_argument, nullptr, json},
                                 {}};
  for (int i = 0; i < argc; ++i) { o.command += (i == 0 ? "" : " ") + std::string{argv[i]}; }
  auto const number = [](char const* flag) { return static_cast<int>(size_from(optarg, flag)); };
  for (int c; (c = getopt_long(argc, argv, "b:e:f:g:d:n:w:h", flags, nullptr)) != -1;) {
    switch (c) {
      case 'b':
        o.begin = size_from(optarg, "-b");
        break;
      case 'e':
        o.end = size_from(optarg, "-e");
        break;
      case 'f':
        o.factor = number("-f");
        break;
      case 'g':
        o.ranks = number("-g");
        break;
      case 'd':
        o.dtype = optarg;
        break;
      case 'n':
        o.replays = number("-n");
        break;
      case 'w':
        o.warm_up = number("-w");
        break;
      case ops:
        o.ops = number("--ops");
        break;
      case transport:
        o.transport = optarg;
        break;
      case topology:
        o.topology = optarg;
        break;
      case eager:
        o.eager = true;
        break;
      case peers:
        o.peers = true;
        break;
      case baseline:
        o.baseline = optarg;
        break;
      case epilogue:
        o.epilogue = optarg;
        break;
      case columns:
        o.columns = size_from(optarg, "--columns");
        break;
      case root:
        o.root = number("--root");
        break;
      case in_place:
        o.in_place = true;
        break;
      case offset:
        o.offset = size_from(optarg, "--offset");
        break;
      case check:
        o.check = number("--check") != 0;
        break;
      case max_bytes:
        o.max_bytes = size_from(optarg, "--max-bytes");
        break;
      case one_shot:
        o.one_shot = size_from(optarg, "--one-shot");
        break;
      case blocks:
        o.blocks = number("--blocks");
        break;
      case link:
        o.link = std::atof(optarg);
        break;
      case csv:
        o.csv = optarg;
        break;
      case json:
        o.json = optarg;
        break;
      case 'h':
        return false;
      default:
        throw tpx::error{tpx::errc::invalid_argument, "unknown flag", {.remedy = "--help"}};
    }
  }
  tpx::expects(optind == argc,
               std::string{"'"} + (optind < argc ? argv[optind] : "") + "' is no flag", "--help");
  expect_one_of("--transport", o.transport, {"peer", "host"});
  expect_one_of("--topology", o.topology, {"auto", "all", "ring", "tree"});
  expect_one_of("--epilogue", o.epilogue, {"none", "add", "rmsnorm", "rmsnorm-fp8"});
  expect_one_of("--dtype", o.dtype, {"bfloat16", "half", "float", "double", "int32", "int8"});
  tpx::expects(o.baseline.empty() || o.baseline == "exllamav2",
               "--baseline: '" + o.baseline + "' is not known", "one of: exllamav2");
  tpx::expects(o.columns >= 1, "--columns must be 1 or more");
  tpx::expects(o.factor >= 2, "-f must be 2 or more");
  tpx::expects(o.begin > 0 && o.begin <= o.end, "-b must be positive and at most -e");
  if (o.link == 0) { o.link = o.transport == "peer" ? 396 : 52; }
  return true;
}

}  // namespace bench
