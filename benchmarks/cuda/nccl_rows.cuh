// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "options.hpp"
#include "row.cuh"

#include <tpx/group.hpp>

#include <nccl.h>

#include <cstdio>
#include <exception>

namespace bench {

inline void check_nccl(ncclResult_t status, char const* what) {
  if (status != ncclSuccess) {
    throw tpx::error{tpx::errc::nccl, std::string{what} + ": " + ncclGetErrorString(status)};
  }
}

template <class T>
inline constexpr ncclDataType_t nccl_type = std::is_same_v<T, tpx::bfloat16>  ? ncclBfloat16
                                            : std::is_same_v<T, tpx::float16> ? ncclFloat16
                                            : std::is_same_v<T, float>        ? ncclFloat32
                                            : std::is_same_v<T, double>       ? ncclFloat64
                                            : std::is_same_v<T, std::int32_t> ? ncclInt32
                                                                              : ncclInt8;

/// The two communicators' names; made by one thread, before all others. NCCL reads its environment
/// once, here: no NVLink multicast, and no traffic from GPU to GPU where pinned memory is compared.
class nccl_start {
 public:
  explicit nccl_start(options const& o) {
    setenv("NCCL_NVLS_ENABLE", "0", 1);
    if (o.transport == "host") { setenv("NCCL_P2P_DISABLE", "1", 1); }
    if (o.peers) {
      for (auto& id : ids) { check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId"); }
    }
  }
  ncclUniqueId ids[2]{};
};

class nccl_comm {
 public:
  nccl_comm(ncclUniqueId const& id, tpx::group const& g) {
    check_nccl(ncclCommInitRank(&comm_, g.size(), id, g.rank()), "ncclCommInitRank");
  }
  nccl_comm(nccl_comm&&) = delete;
  ~nccl_comm() {
    // Destroying waits for the other ranks, which may be gone if this one is failing.
    std::uncaught_exceptions() > 0 ? ncclCommAbort(comm_) : ncclCommDestroy(comm_);
  }

  [[nodiscard]] ncclComm_t get() const { return comm_; }
  void settle() const {
    ncclResult_t status = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &status), "ncclCommGetAsyncError");
    check_nccl(status, "a collective of NCCL");
  }

 private:
  ncclComm_t comm_ = nullptr;
};

#if NCCL_VERSION_CODE >= 22700
/// Memory that every rank's NCCL knows as a window.
class nccl_window {
 public:
  nccl_window(nccl_comm const& comm, std::size_t bytes) : comm_{comm.get()} {
    check_nccl(ncclMemAlloc(&memory_, bytes), "ncclMemAlloc");
    check_nccl(ncclCommWindowRegister(comm_, memory_, bytes, &window_, NCCL_WIN_COLL_SYMMETRIC),
               "ncclCommWindowRegister");
  }
  nccl_window(nccl_window&&) = delete;
  ~nccl_window() {
    if (window_ != nullptr && std::uncaught_exceptions() == 0) {
      ncclCommWindowDeregister(comm_, window_);
    }
    ncclMemFree(memory_);
  }

  [[nodiscard]] void* get() const { return memory_; }
  [[nodiscard]] bool registered() const { return window_ != nullptr; }

 private:
  ncclComm_t comm_;
  void* memory_ = nullptr;
  ncclWindow_t window_ = nullptr;
};
#endif

/// NCCL as it comes and, where it has kernels for them, on symmetric windows.
template <class Collective, class T>
void add_nccl_rows(std::vector<row>& rows, tpx::group& g, options const& o, nccl_start const& start,
                   std::shared_ptr<arrays> const& plain, std::size_t bytes) {
  auto const add = [&](char const* name, auto comm, std::shared_ptr<arrays> memory) {
    rows.push_back({.provider = name,
                    .peer = true,
                    .memory = std::move(memory),
                    .enqueue =
                      [comm](call const& c) {
                        check_nccl(Collective::template run_nccl<T>(c, comm->get()),
                                   Collective::name);
                      },
                    .settle = [comm] { comm->settle(); }});
  };
  add("nccl", std::make_shared<nccl_comm>(start.ids[0], g), plain);
#if NCCL_VERSION_CODE >= 22700
  if (Collective::nccl_symmetric && o.transport == "peer") {
    struct symmetric {
      nccl_comm comm;
      nccl_window in;
      nccl_window out;
      symmetric(ncclUniqueId const& id, tpx::group const& group, std::size_t size)
          : comm{id, group}, in{comm, size}, out{comm, size} {}
      [[nodiscard]] ncclComm_t get() const { return comm.get(); }
      void settle() const { comm.settle(); }
    };
    auto const comm = std::make_shared<symmetric>(start.ids[1], g, bytes);
    auto const ranks = g.exchange(comm->in.registered() && comm->out.registered() ? 1 : 0);
    bool const here = std::count(ranks.begin(), ranks.begin() + g.size(), 1u) == g.size();
    if (here) {
      auto memory = std::make_shared<arrays>(comm->in.get(), comm->out.get(), bytes);
      add("nccl symmetric", comm, std::move(memory));
    } else if (g.rank() == 0) {
      std::fprintf(stderr, "NCCL has no symmetric windows on these GPUs: no row for them\n");
    }
  }
#endif
}

}  // namespace bench
