// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The llama example and serve_batch as their users meet them.
#include "llama/child.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

std::string const bin = TPX_TEST_BIN;
std::string const model = std::string{TPX_TEST_EXAMPLES} + "/llama/model";

struct ended {
  int code;
  std::string text;  // standard output and error
};

/// What a shell makes of `command`; "llama" and "tpx-run" are those of this build.
ended shell(std::string const& command) {
  auto const out =
    llama::run_child({"/bin/sh", "-c", "PATH='" + bin + "':$PATH; exec 2>&1; " + command});
  return {WIFEXITED(out.status) ? WEXITSTATUS(out.status) : -1, out.text};
}

bool has(ended const& e, std::string const& what) {
  return e.text.find(what) != std::string::npos;
}

nlohmann::json golden() {
  return nlohmann::json::parse(std::ifstream{model + "/golden.json"}).at("greedy").at(0);
}

}  // namespace

TEST_CASE("llama streams the golden continuation after the split plan", "[llama]") {
  auto const wanted = golden();
  std::string const text =
    wanted.at("prompt").get<std::string>() + wanted.at("text").get<std::string>();
  std::string const options = " --no-compare --tokens " + std::to_string(wanted.at("ids").size()) +
                              " --prompt '" + wanted.at("prompt").get<std::string>() + "'";
  for (std::string const how : {"llama", "llama --ranks 3 --topology Ring", "tpx-run -n 2 llama",
                                "tpx-run -n 3 llama --transport PeerDirect --topology Tree"}) {
    INFO(how);
    auto const out = shell(how + options);
    CAPTURE(out.text);
    CHECK(out.code == 0);
    CHECK(out.text.starts_with("split plan: "));
    auto const at = out.text.find(text);
    REQUIRE(at != std::string::npos);
    CHECK(out.text.find(text, at + 1) == std::string::npos);  // rank 0 alone writes
  }
}

TEST_CASE("llama streams the golden on 1 to 8 processes in every topology", "[llama]") {
  auto const wanted = golden();
  std::string const text =
    wanted.at("prompt").get<std::string>() + wanted.at("text").get<std::string>();
  std::string const options = " --no-compare --tokens " + std::to_string(wanted.at("ids").size()) +
                              " --prompt '" + wanted.at("prompt").get<std::string>() + "'";
  for (std::string const ranks : {"1", "2", "3", "4", "8"}) {
    for (std::string const topology : {"Ring", "Tree", "AllPairs"}) {
      auto const out = shell("tpx-run -n " + ranks + " llama --topology " + topology + options);
      INFO(ranks << " processes, " << topology);
      CAPTURE(out.text);
      CHECK(out.code == 0);
      CHECK(has(out, text));
    }
  }
}

TEST_CASE("llama gives the same text on every configuration it compares", "[llama]") {
  for (std::string const options : {"", " --temperature 0.9 --seed 3"}) {
    auto const out = shell("llama --tokens 12" + options);
    CAPTURE(out.text);
    CHECK(out.code == 0);
    CHECK(!has(out, "DIFFERENT"));
    std::size_t same = 0;
    for (auto at = out.text.find("the same"); at != std::string::npos;
         at = out.text.find("the same", at + 1)) {
      ++same;
    }
    CHECK(same == 14);  // 1 rank, and 2 and 4 in three topologies; threads and processes
  }
}

TEST_CASE("llama draws another text with another seed, and the same with the same", "[llama]") {
  std::string const options = "llama --no-compare --tokens 40 --temperature 1 --ranks 1 --seed ";
  auto const text = [&](std::string const& seed) {
    auto const out = shell(options + seed);
    return out.text.substr(0, out.text.rfind("\n\n")).substr(out.text.find("\n\n"));
  };
  auto const one = text("1");
  CHECK(one == text("1"));
  CHECK(one != text("2"));
}

TEST_CASE("llama ends with 2 for a bad option and says which", "[llama]") {
  struct {
    char const* arguments;
    char const* said;
  } const cases[]{{"--ranks 17", "--ranks"},
                  {"--ranks 0", "--ranks"},
                  {"--tokens -1", "--tokens"},
                  {"--tokens many", "--tokens"},
                  {"--temperature -1", "--temperature"},
                  {"--temperature nan", "--temperature"},
                  {"--topology Star", "Star"},
                  {"--transport Nccl", "Nccl"},
                  {"--compare --no-compare", "--no-compare"},
                  {"--promt x", "--promt"},
                  {"x", "x"}};
  for (auto const& [arguments, said] : cases) {
    INFO(arguments);
    auto const out = shell("llama " + std::string{arguments});
    CAPTURE(out.text);
    CHECK(out.code == 2);
    CHECK(has(out, said));
    CHECK(!has(out, "split plan"));
  }
  auto const launched = shell("tpx-run -n 2 llama --ranks 3");
  CHECK(launched.code == 2);
  CHECK(has(launched, "--ranks: 3, but tpx-run started 2 ranks"));
  CHECK(shell("llama --help").code == 0);
}

TEST_CASE("llama ends with 1 for what it cannot do and says how to mend it", "[llama]") {
  struct {
    char const* arguments;
    char const* said;
  } const cases[]{{"--model /nowhere", "/nowhere/config.json"},
                  {"--tokens 512", "ask for at most --tokens"},
                  {"--prompt \"$(yes and | head -n 2000)\"", "shorten the prompt"}};
  for (auto const& [arguments, said] : cases) {
    for (std::string const how : {"llama ", "tpx-run -n 2 llama "}) {
      INFO(how << arguments);
      auto const out = shell(how + arguments);
      CAPTURE(out.text);
      CHECK(out.code == 1);
      auto const at = out.text.find(said);
      REQUIRE(at != std::string::npos);
      CHECK(out.text.find(said, at + 1) == std::string::npos);  // one of all ranks says it
    }
  }
}

TEST_CASE("serve_batch gives each text what it gets alone, and the llama program's", "[llama]") {
  std::vector<std::string> const prompts{"And it came to pass", "In the beginning God",
                                         "And it came to pass in those days that",
                                         "The LORD is my shepherd; I shall", "Thus"};
  std::string const folder = "/tmp/tpx_serve_" + std::to_string(::getpid());
  std::ofstream{folder} << [&] {
    std::string all;
    for (auto const& prompt : prompts) { all += prompt + "\n"; }
    return all;
  }();
  for (std::string const options : {"", " --temperature 0.9 --top-k 50 --top-p 0.95 --seed 7"}) {
    std::string const common = " --tokens 24" + options;
    for (std::string const& batch :
         {"serve_batch " + folder, "serve_batch - --ranks 1 --pages 8 < " + folder,
          "serve_batch - --ranks 4 --pages 3 < " + folder}) {
      auto const out = shell(batch + common);
      INFO(batch);
      CAPTURE(out.text);
      CHECK(out.code == 0);
      CHECK(has(out, " failed_jobs=0 "));
      auto rest = out.text.substr(out.text.find("\n\n") + 2);
      for (auto const& prompt : prompts) {
        auto const alone = shell("llama --no-compare --prompt '" + prompt + "'" + common);
        auto const begin = alone.text.find("\n\n") + 2;
        auto const text = alone.text.substr(begin, alone.text.rfind("\n\n") - begin);
        CHECK(text.starts_with(prompt));
        CHECK(rest.starts_with(text + "\n---\n"));
        rest.erase(0, std::min(rest.size(), text.size() + 5));
      }
      CHECK(rest.find("---") == rest.npos);
    }
  }
  std::remove(folder.c_str());
}

TEST_CASE("serve_batch runs nothing where one prompt cannot be run, or none is there", "[llama]") {
  for (std::string const how : {"echo x | serve_batch - --tokens 512", "serve_batch /nowhere",
                                "serve_batch - < /dev/null"}) {
    auto const out = shell(how);
    INFO(how);
    CAPTURE(out.text);
    CHECK(out.code == 1);
    CHECK(has(out, "serve_batch: "));
    CHECK(!has(out, "---"));
  }
  CHECK(shell("serve_batch --top-p 2").code == 2);
}
