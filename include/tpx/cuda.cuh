// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// All of tpx. No other header includes it.
#include <tpx/cuda/engine.cuh>
#include <tpx/cuda/host_pinned.cuh>
#include <tpx/cuda/peer_direct.cuh>
#include <tpx/tpx.hpp>
