// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/driver.cuh>
#include <tpx/cuda/environment.cuh>
#include <tpx/group.hpp>
#include <tpx/op.hpp>

#include <array>

namespace tpx::detail {

/// Which GPU each rank of a group has.
struct group_gpus {
  using uuid = std::array<std::uint64_t, 2>;

  int device = -1;                          // this rank's: the current one
  std::array<uuid, max_ranks> id{};         // by rank
  std::array<int, max_ranks> in_process{};  // by rank, as this process numbers it; -1: not visible

  [[nodiscard]] bool same(int a, int b) const {
    return id[static_cast<std::size_t>(a)] == id[static_cast<std::size_t>(b)];
  }

  /// "GPU-6b1e20ea-...", as nvidia-smi -L prints it.
  [[nodiscard]] std::string name(int rank) const {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text = "GPU";
    for (unsigned i = 0; i < 16; ++i) {
      if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) { text += '-'; }
      auto const byte = id[static_cast<std::size_t>(rank)][i / 8] >> (8 * (7 - i % 8)) & 0xffu;
      text += digits[byte >> 4];
      text += digits[byte & 15u];
    }
    return text;
  }

  [[nodiscard]] static uuid uuid_of(int device) {
    CUuuid raw{};
    driver_check(driver().device_get_uuid(&raw, device),
                 "asking for the UUID of device " + std::to_string(device));
    uuid id{};
    for (unsigned i = 0; i < 16; ++i) {
      id[i / 8] = id[i / 8] << 8 | static_cast<unsigned char>(raw.bytes[i]);
    }
    return id;
  }
};

/// Asks all ranks for their GPUs. Afterwards every rank's CUDA context exists.
///
/// Two ranks on one GPU are an error on every rank, since a kernel of one that waits for the other
/// may keep the GPU from running the other's; TPX_ALLOW_SHARED_GPU=1 on all ranks allows it. Set
/// CUDA_MODULE_LOADING=EAGER too then: loading a kernel may wait for those that run.
[[nodiscard]] inline group_gpus gpus_of(group& g) {
  call_signature const call{collective::agree, dtype::uint64, type_code<group_gpus>()};
  group_gpus all;
  group_gpus::uuid mine{};
  std::array<group_gpus::uuid, max_ranks> visible{};
  int count = 0;
  g.guarded("finding the GPU", [&] {
    cuda_check(cudaGetDevice(&all.device), "asking for the current device");
    cuda_check(cudaSetDevice(all.device), "using device " + std::to_string(all.device));
    cuda_check(cudaGetDeviceCount(&count), "counting devices");
    count = count < max_ranks ? count : max_ranks;
    for (int d = 0; d < count; ++d) {
      visible[static_cast<std::size_t>(d)] = group_gpus::uuid_of(d);
    }
    mine = group_gpus::uuid_of(all.device);
  });
  std::array<std::array<std::uint64_t, max_ranks>, 2> const half{g.exchange(mine[0], call),
                                                                 g.exchange(mine[1], call)};
  int first = -1;
  int second = -1;
  for (int r = 0; r < g.size(); ++r) {
    auto const at = static_cast<std::size_t>(r);
    all.id[at] = {half[0][at], half[1][at]};
    all.in_process[at] = -1;
    for (int d = 0; d < count; ++d) {
      if (visible[static_cast<std::size_t>(d)] == all.id[at]) { all.in_process[at] = d; }
    }
    for (int q = 0; q < r && second < 0; ++q) {
      if (all.same(q, r)) {
        first = q;
        second = r;
      }
    }
  }
  if (second < 0) { return all; }
  auto const allowed = g.exchange(switched_on("TPX_ALLOW_SHARED_GPU") ? 1 : 0, call);
  for (int r = 0; r < g.size(); ++r) {
    if (allowed[static_cast<std::size_t>(r)] == 0) {
      throw error{errc::invalid_argument,
                  "ranks " + std::to_string(first) + " and " + std::to_string(second) +
                    " use the same GPU, " + all.name(first),
                  {.rank = g.rank(),
                   .peer = second,
                   .remedy = "give each rank its own with cudaSetDevice() before anything else, or "
                             "set TPX_ALLOW_SHARED_GPU=1 and CUDA_MODULE_LOADING=EAGER for tests"}};
    }
  }
  return all;
}

}  // namespace tpx::detail
