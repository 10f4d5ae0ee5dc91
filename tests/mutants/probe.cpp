// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Explores the protocols of the headers that it is compiled with, over flags or (TPX_PROBE_TURNS)
// over cells; ends with 1 and the reason if they fail. ThreadSanitizer finds a race in whatever
// schedule, so that few do.
#include "campaign.hpp"
#if defined(TPX_PROBE_TURNS)
#  include "turns.hpp"
#else
#  include "scenario.hpp"
#endif

#include <cstdio>

int main() {
  using explore::twist;
  explore::scheduler s;
  explore::windows memory;
  auto const pass = [&](twist how, std::uint64_t schedules) {
#if defined(TPX_PROBE_TURNS)
    auto const variants = explore::turn_variants(how);
#else
    auto const variants = explore::flag_variants(how);
#endif
    for (auto const& v : variants) {
      auto const failure = campaign(s, memory, v, schedules);
      if (!failure.empty()) {
        std::printf("%s", failure.c_str());
        return false;
      }
    }
    return true;
  };
#if defined(__SANITIZE_THREAD__)
  bool const good = pass(twist::none, 40);
#else
  bool const good = pass(twist::none, 300) && pass(twist::another_call, 30);
#endif
  if (good) { std::puts("good"); }
  return good ? 0 : 1;
}
