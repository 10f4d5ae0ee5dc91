// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>
#include <tpx/transport/nccl_api.cuh>
#include <tpx/transport/nccl_log.hpp>
#include <tpx/transport/nccl_memory.cuh>
#include <tpx/transport/nccl_pending.cuh>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>

namespace tpx::detail {

/// One rank's communicator of NCCL, shared by the rank's thread and the thread that watches it.
///
/// The rank's thread calls NCCL; the watcher looks for what ended the group, for NCCL's own errors,
/// for ranks that left and for calls that take too long, tells the group, and aborts NCCL's
/// communicator, so that its kernels leave. NCCL wants nobody inside while it aborts: its calls are
/// made under a mutex, and its communicators that tpx makes do not block in them.
class nccl_state {
 public:
  nccl_state(int device, std::size_t scratch_bytes, std::chrono::nanoseconds deadline)
      : memory_{scratch_bytes}, device_{device}, limit_ns_{in_ns(deadline)} {}

  nccl_state(nccl_state&&) = delete;
  ~nccl_state() {
    if (owned_) { abort(); }  // where the communicator's construction failed
  }

  void join(group& g, std::shared_ptr<shared_memory> log, nccl_log& at) {
    home_ = g.home();
    me_.emplace(g.me());
    rank_ = g.rank();
    log_memory_ = std::move(log);
    caller_.emplace(*me_, at);
  }

  /// Uses a communicator that the caller made and keeps.
  void adopt(ncclComm_t comm, int rank) {
    owned_ = false;
    rank_ = rank;
    comm_.store(comm);
  }

  /// Makes a communicator with all ranks that have the same `id`.
  void create(int ranks, ncclUniqueId const& id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    try {
      auto const result = ncclCommInitRankConfig(&made_, ranks, id, rank_, &config);
      comm_.store(made_);
      settle(result, "create a communicator");
    } catch (...) {
      abort();
      throw;
    }
  }

  /// Calls NCCL and waits until it has enqueued what it was asked for. f(ncclComm_t) ->
  /// ncclResult_t. Errors: nccl, timeout, what ended the group.
  template <class F>
  void call(std::string_view attempted, F&& f) {
    ncclResult_t result = ncclSuccess;
    {
      std::lock_guard const lock{use_};
      ncclComm_t const comm = comm_.load();
      if (comm == nullptr) { refuse(); }
      result = f(comm);
    }
    settle(result, attempted);
  }

  /// For NCCL's functions that need no communicator.
  void require(ncclResult_t result, std::string_view attempted) {
    if (result == ncclSuccess) { return; }
    report(errc::nccl, -1,
           nccl_story(result, attempted) + " (NCCL_DEBUG=INFO makes NCCL tell more)", current_);
    refuse();
  }

  /// Numbers a call of a collective and compares it with the other ranks'. Throws what ended the
  /// group, or a mismatch.
  void begin(call_signature what) {
    check();
    current_.signature = what.pack();
    current_.epoch = caller_ ? caller_->begin(what) : current_.epoch + 1;
  }
  /// From here on the call needs all ranks.
  void await_all() { awaited_.store(current_.epoch, std::memory_order_release); }

  [[nodiscard]] nccl_call const& current() const { return current_; }
  [[nodiscard]] nccl_memory const& memory() const { return memory_; }
  [[nodiscard]] nccl_pending& pending() { return pending_; }
  [[nodiscard]] ncclComm_t handle() const { return comm_.load(); }
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] std::uint64_t limit_ns() const { return limit_ns_.load(); }
  void limit(std::chrono::nanoseconds deadline) { limit_ns_.store(in_ns(deadline)); }

  /// Whether the group, or without one this communicator, has failed.
  [[nodiscard]] bool ended() const {
    return me_ ? me_->aborted() || me_->superseded() : failed_.load(std::memory_order_acquire);
  }
  void check() const {
    if (me_) {
      me_->check();
    } else if (failed_.load(std::memory_order_acquire)) {
      throw error{*failure_};
    }
  }

  /// Ends the group, or without one this communicator. The first report stands.
  void report(errc code, int peer, std::string const& message, nccl_call const& what) {
    auto const operation =
      what.signature == 0 ? std::string{} : to_string(call_signature::unpack(what.signature));
    if (me_) {
      me_->raise(code, peer, message, operation, what.epoch);
      return;
    }
    std::lock_guard const lock{failing_};
    if (failure_) { return; }
    failure_.emplace(code, message,
                     error_facts{.rank = rank_,
                                 .peer = peer,
                                 .operation = operation,
                                 .epoch = what.epoch,
                                 .remedy = "make this communicator anew"});
    failed_.store(true, std::memory_order_release);
  }

  /// The watcher's look, every two milliseconds.
  void look() {
    if (comm_.load() == nullptr) { return; }
    if (!ended()) { find_fault(); }
    if (ended()) { abort(); }
  }

  /// Whether nothing that was enqueued or replayed is under way.
  [[nodiscard]] bool idle() {
    nccl_call which;
    cudaError_t status = cudaSuccess;
    return pending_.look(~std::uint64_t{0}, which, status) != nccl_pending::state::under_way &&
           replaying() == 0;
  }

  /// Last of all: lets go of NCCL's communicator, in order or by force.
  void retire(bool orderly) {
    if (ended() || (!orderly && (owned_ || !idle()))) {
      abort();
    } else if (auto const comm = comm_.exchange(nullptr); owned_ && comm != nullptr) {
      ncclCommDestroy(comm);
    }
  }

 private:
  static std::uint64_t in_ns(std::chrono::nanoseconds t) {
    return static_cast<std::uint64_t>(t.count());
  }

  [[noreturn]] void refuse() const {
    check();
    throw error{errc::stale, "NCCL's communicator is gone", {.rank = rank_}};
  }

  void settle(ncclResult_t result, std::string_view attempted) {
    auto const begun = now_ns();
    auto under_way = result == ncclSuccess || result == ncclInProgress;
    for (unsigned polls = 0; under_way; ++polls) {
      {
        std::lock_guard const lock{use_};
        ncclComm_t const comm = comm_.load();
        if (comm == nullptr) { refuse(); }
        auto const asked = ncclCommGetAsyncError(comm, &result);
        if (asked != ncclSuccess) { result = asked; }
      }
      under_way = result == ncclInProgress;
      if (!under_way) { break; }
      if (now_ns() - begun > limit_ns()) { late(current_, now_ns() - begun); }
      if (ended()) { refuse(); }
      if (polls < 4000) {
        relax();
      } else {
        ::sched_yield();
      }
    }
    require(result, attempted);
  }

  void find_fault() {
    if (std::unique_lock const lock{use_, std::try_to_lock}; lock.owns_lock()) {
      ncclComm_t const comm = comm_.load();
      ncclResult_t result = ncclSuccess;
      if (comm != nullptr && ncclCommGetAsyncError(comm, &result) == ncclSuccess &&
          result != ncclSuccess && result != ncclInProgress) {
        report(errc::nccl, -1, nccl_story(result, "finish a collective"), {});
        return;
      }
    }
    if (auto const epoch = awaited_.load(std::memory_order_acquire); caller_ && epoch != 0) {
      if (int const r = caller_->gone(epoch); r >= 0) {
        report(errc::left, r,
               "rank " + std::to_string(r) + " returned after " +
                 std::to_string(caller_->latest(r)) + " operations and is waited for",
               {.epoch = epoch});
        return;
      }
    }
    nccl_call which;
    cudaError_t status = cudaSuccess;
    auto const seen = pending_.look(limit_ns(), which, status);
    if (seen == nccl_pending::state::broken) {
      report(errc::cuda, rank_, std::string{"the GPU reports: "} + cudaGetErrorString(status),
             which);
    } else if (seen == nccl_pending::state::late) {
      late(which, limit_ns());
    } else if (auto const begun = replaying(); begun != replay_seen_) {
      replay_seen_ = begun;
      replay_seen_ns_ = now_ns();
    } else if (begun != 0 && now_ns() - replay_seen_ns_ > limit_ns()) {
      late({.signature = word(memory_.marks().signature).load(std::memory_order_relaxed)},
           limit_ns());
    }
  }

  /// The number of the captured call that is under way, as far as marks tell, or 0.
  [[nodiscard]] std::uint64_t replaying() const {
    auto const begun = word(memory_.marks().begun).load(std::memory_order_acquire);
    return word(memory_.marks().ended).load(std::memory_order_acquire) < begun ? begun : 0;
  }

  void late(nccl_call const& which, std::uint64_t waited_ns) {
    std::string what = "NCCL has not finished it";
    int const r = caller_ && which.epoch != 0 ? caller_->absent(which.epoch) : -1;
    if (r >= 0) {
      what = "rank " + std::to_string(r) + " has not called it (its last call here was #" +
             std::to_string(caller_->latest(r)) + ")";
    }
    report(errc::timeout, r, what + " after " + std::to_string(waited_ns / 1'000'000) + " ms",
           which);
  }

  /// Makes NCCL's kernels leave. A call of another thread that does not return, which a blocking
  /// communicator of the caller's can have, is given half a second.
  void abort() {
    std::unique_lock lock{use_, std::try_to_lock};
    for (int waits = 0; !lock.owns_lock() && waits < 500; ++waits) {
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
      (void)lock.try_lock();
    }
    ncclComm_t const doomed = comm_.exchange(nullptr);
    if (lock.owns_lock()) { lock.unlock(); }
    if (doomed != nullptr) { ncclCommAbort(doomed); }
  }

  nccl_memory memory_;
  nccl_pending pending_;
  std::shared_ptr<world> home_;
  std::shared_ptr<shared_memory> log_memory_;
  std::optional<member> me_;
  std::optional<nccl_caller> caller_;
  std::mutex use_;
  std::atomic<ncclComm_t> comm_{nullptr};
  ncclComm_t made_ = nullptr;  // NCCL writes here
  bool owned_ = true;
  int rank_ = -1;
  int device_;
  nccl_call current_;                      // of the rank's thread
  std::atomic<std::uint64_t> awaited_{0};  // number of the newest call that needs all ranks
  std::atomic<std::uint64_t> limit_ns_;    // that any call may wait
  std::uint64_t replay_seen_ = 0;          // of the watcher
  std::uint64_t replay_seen_ns_ = 0;       // of the watcher
  std::mutex failing_;
  std::atomic<bool> failed_{false};
  std::optional<error> failure_;
};

}  // namespace tpx::detail
