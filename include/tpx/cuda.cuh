// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// All of tpx. No other header includes it.
#include <tpx/cuda/space.cuh>
#include <tpx/tpx.hpp>
