// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// The Cuda space: all collectives between GPUs, over PeerDirect, HostPinned or whichever works
/// (Auto). No other header includes it. What starts ranks: <tpx/run_ranks.hpp>; NCCL:
/// <tpx/nccl.cuh>.
#include <tpx/allgather.hpp>
#include <tpx/allreduce.hpp>
#include <tpx/barrier.hpp>
#include <tpx/broadcast.hpp>
#include <tpx/cuda/auto_memory.cuh>
#include <tpx/cuda/engine.cuh>
#include <tpx/gather.hpp>
#include <tpx/reduce_scatter.hpp>
