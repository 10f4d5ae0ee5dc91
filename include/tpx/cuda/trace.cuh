// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <nvtx3/nvToolsExt.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace tpx::detail {

/// A range that profilers show, "tpx allreduce 8192 B one-shot", around the launch of a call. Costs
/// the formatting of its name, 0.2 us, only where a profiler is attached when the process starts.
class trace_range {
 public:
  trace_range(std::string_view collective, std::string_view algorithm, std::size_t bytes) {
    static bool const watched = std::getenv("NVTX_INJECTION64_PATH") != nullptr;
    if (!watched) { return; }
    char text[96];
    std::snprintf(text, sizeof(text), "tpx %.*s %zu B %.*s", static_cast<int>(collective.size()),
                  collective.data(), bytes, static_cast<int>(algorithm.size()), algorithm.data());
    open_ = nvtxRangePushA(text) >= 0;
  }
  trace_range(trace_range&&) = delete;
  ~trace_range() {
    if (open_) { nvtxRangePop(); }
  }

 private:
  bool open_ = false;
};

}  // namespace tpx::detail
