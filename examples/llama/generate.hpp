// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "serving.hpp"

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace llama {

/// What became of one job, and what it cost. Seconds and counts are rank 0's, and leave out the
/// prompt and the first token.
struct result {
  std::vector<std::int32_t> tokens;  // an ending token is the last
  std::size_t steps = 0;             // that were counted
  double seconds = 0;
  std::uint64_t collectives = 0;
  double seconds_in_collectives = 0;  // waiting included
};

/// Runs one job alone. All ranks call it; rank 0 calls `each` with the text as it comes, and gets
/// the result. Errors: what ended the job.
[[nodiscard]] result generate(tpx::group& g, engine& model, vocabulary const& words,
                              generator::options const& job,
                              std::function<void(std::string_view)> const& each = {});

}  // namespace llama
