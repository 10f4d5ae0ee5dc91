// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "call.hpp"

#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <unistd.h>

namespace explore {

/// How many schedules of a variant to try: TPX_EXPLORE_SCHEDULES, or `otherwise`.
inline std::uint64_t schedules(std::uint64_t otherwise) {
  char const* const set = std::getenv("TPX_EXPLORE_SCHEDULES");
  return set == nullptr ? otherwise : std::strtoull(set, nullptr, 10);
}

/// A failed run, said so that it can be told from another, and the command that runs it again.
inline std::string report(variant const& v, std::uint64_t seed, outcome const& o) {
  char program[PATH_MAX] = "test_explore";
  auto const length = ::readlink("/proc/self/exe", program, sizeof program - 1);
  if (length > 0) { program[length] = '\0'; }
  return v.name() + ", seed " + std::to_string(seed) + ": " + o.what + " (order " +
         std::to_string(o.order) + ", " + std::to_string(o.steps) +
         " steps)\nagain: " + "TPX_EXPLORE_REPLAY='" + v.name() + ":" + std::to_string(seed) +
         "' '" + program + "' '[replay]'\n";
}

/// Runs seeds 1 to `count` of a variant. Gives the first failure's report, or nothing.
inline std::string campaign(scheduler& s, windows& memory, variant const& v, std::uint64_t count) {
  for (std::uint64_t seed = 1; seed <= count; ++seed) {
    outcome const o = v.run(s, memory, seed);
    if (o.failed) { return report(v, seed, o); }
  }
  return {};
}

/// Runs what TPX_EXPLORE_REPLAY names, `<variant>:<seed>`.
inline std::string replay(std::string_view named, std::span<variant const> known) {
  auto const colon = named.rfind(':');
  std::uint64_t seed = 0;
  if (colon == std::string_view::npos) { return "no ':<seed>' in TPX_EXPLORE_REPLAY\n"; }
  auto const digits = named.substr(colon + 1);
  std::from_chars(digits.data(), digits.data() + digits.size(), seed);
  for (auto const& v : known) {
    if (v.name() == named.substr(0, colon)) {
      scheduler s;
      windows memory;
      outcome const o = v.run(s, memory, seed);
      return o.failed ? report(v, seed, o) : std::string{};
    }
  }
  return "no variant of the name in TPX_EXPLORE_REPLAY\n";
}

}  // namespace explore
