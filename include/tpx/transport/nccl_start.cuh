// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/transport/nccl_state.cuh>

#include <algorithm>
#include <chrono>
#include <memory>

namespace tpx {

/// What a communicator on NCCL can be told besides communicator_options.
struct nccl_options {
  /// The longest that its construction may take, where the group's deadline is shorter: NCCL loads
  /// hundreds of kernels.
  std::chrono::nanoseconds start_up = std::chrono::seconds{120};
  /// The longest that a call may wait for another rank, where there is no group to say so.
  std::chrono::nanoseconds deadline = std::chrono::seconds{30};
  /// Whether calls in CUDA graphs have the deadline too, at two empty kernels each. Without it, a
  /// replay still ends when the group does, but a rank that is silent ends no group.
  bool watch_replays = true;
};

namespace detail {

/// What rank 0 shares with the others.
struct nccl_meeting {
  ncclUniqueId id;
  alignas(cache_line) nccl_log log;
};

/// The size of a communicator of the caller's.
inline int nccl_ranks(ncclComm_t callers) {
  int size = 0;
  if (auto const result = ncclCommCount(callers, &size); result != ncclSuccess) {
    throw error{errc::nccl,
                nccl_story(result, "tell the adopted communicator's size"),
                {.remedy = "adopt one whose creation has finished"}};
  }
  expects(size <= max_ranks, [&] {
    return "the adopted communicator has " + std::to_string(size) + " ranks, tpx takes up to 16";
  });
  return size;
}

inline std::shared_ptr<nccl_state> nccl_prepare(std::size_t scratch_bytes,
                                                std::chrono::nanoseconds limit) {
  int device = 0;
  cuda_check(cudaGetDevice(&device), "asking for the current GPU");
  return std::make_shared<nccl_state>(device, scratch_bytes, limit);
}

/// A state on the caller's communicator.
inline std::shared_ptr<nccl_state> nccl_adopt(ncclComm_t callers, std::size_t scratch_bytes,
                                              nccl_options const& own) {
  auto state = nccl_prepare(scratch_bytes, std::max(own.start_up, own.deadline));
  int rank = -1;
  state->require(ncclCommUserRank(callers, &rank), "tell the adopted communicator's rank");
  state->adopt(callers, rank);
  return state;
}

/// A state for a rank of a group, on the caller's communicator or, without one, on a new one.
inline std::shared_ptr<nccl_state> nccl_meet(group& g, ncclComm_t callers, std::uint16_t purpose,
                                             std::size_t scratch_bytes, nccl_options const& own) {
  std::shared_ptr<nccl_state> state;
  g.guarded("communicator",
            [&] { state = nccl_prepare(scratch_bytes, std::max(own.start_up, g.me().deadline)); });
  auto const memory = g.share(sizeof(nccl_meeting), 0, purpose);
  auto& met = *reinterpret_cast<nccl_meeting*>(memory->data());
  state->join(g, memory, met.log);
  if (callers == nullptr && g.rank() == 0) {
    state->require(ncclGetUniqueId(&met.id), "make an id for a communicator");
  }
  int version = 0;
  ncclGetVersion(&version);
  g.agree(static_cast<std::uint64_t>(version));  // the id is there once this returns
  g.agree(scratch_bytes);
  if (callers == nullptr) {
    state->create(g.size(), met.id);
    return state;
  }
  int rank = -1;
  state->require(ncclCommUserRank(callers, &rank), "tell the adopted communicator's rank");
  g.guarded("communicator", [&] {
    int const size = nccl_ranks(callers);
    expects(size == g.size() && rank == g.rank(), [&] {
      return "the adopted communicator says rank " + std::to_string(rank) + " of " +
             std::to_string(size) + ", the group rank " + std::to_string(g.rank()) + " of " +
             std::to_string(g.size());
    });
  });
  state->adopt(callers, rank);
  return state;
}

}  // namespace detail
}  // namespace tpx
