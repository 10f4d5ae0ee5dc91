// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>
#include <tpx/runtime/process_world.hpp>

#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

namespace tpx {
namespace detail {

/// Runs one rank's body. Whatever it throws first ends the group for the other ranks.
template <class F>
void run_rank(group& g, F& body, auto&& on_failure) {
  try {
    body(g);
  } catch (error const& e) {
    on_failure(e.rank() >= 0 ? std::current_exception()
                             : std::make_exception_ptr(e.on_rank(g.rank())));
    if (!g.me().aborted()) { g.abort(e.code(), e.what()); }
  } catch (std::exception const& e) {
    try {
      std::throw_with_nested(error{errc::rank_failed,
                                   std::string{"threw: "} + e.what(),
                                   {.rank = g.rank(), .peer = g.rank()}});
    } catch (...) { on_failure(std::current_exception()); }
    g.abort(errc::rank_failed, std::string{"threw: "} + e.what());
  } catch (...) {
    on_failure(std::make_exception_ptr(
      error{errc::rank_failed, "threw something unnamed", {.rank = g.rank(), .peer = g.rank()}}));
    g.abort(errc::rank_failed, "threw something unnamed");
  }
}

/// One thread a rank, all of this process; a single rank is the calling thread.
template <class F>
void run_threads(int size, F& body, group_options const& options) {
  auto const shared = std::make_shared<thread_world>(size);
  std::mutex mutex;
  std::exception_ptr first;
  auto const keep_first = [&](std::exception_ptr e) {
    std::lock_guard const lock{mutex};
    if (!first) { first = std::move(e); }
  };
  auto const run = [&](int rank) {
    try {
      group g{shared, rank, size, options};
      run_rank(g, body, keep_first);
    } catch (...) { keep_first(std::current_exception()); }
  };
  if (size == 1) {
    run(0);
  } else {
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(size));
    for (int rank = 0; rank < size; ++rank) {
      try {
        threads.emplace_back([&, rank] { run(rank); });
      } catch (std::system_error const& e) {
        error const refused{errc::out_of_memory,
                            "no thread for rank " + std::to_string(rank) + ": " + e.what(),
                            {.peer = rank, .remedy = "raise the limit on threads"}};
        keep_first(std::make_exception_ptr(refused));
        group{shared, rank, size, options}.abort(refused.code(), refused.what());
        break;
      }
    }
  }
  if (first) { std::rethrow_exception(first); }
}

/// This process as the one rank that its launcher made it.
template <class F>
void run_process(launch const& job, F& body, group_options const& options) {
  std::exception_ptr failure;
  {
    auto const shared = process_world::join(job, options.deadline);
    group g{shared, job.rank, job.size, options};
    run_rank(g, body, [&](std::exception_ptr e) { failure = std::move(e); });
  }
  if (failure) { std::rethrow_exception(failure); }
}

}  // namespace detail

/// Runs `body(group&)` on every rank of a group and returns when it has returned here.
///
/// Without a launcher, the ranks are `size` threads of this process (0: one; a single rank is the
/// calling thread). Started by tpx-run, torchrun, mpirun or srun, this process is one rank, and
/// `size` must be 0 or what the launcher was told. The same program does both.
/// Errors: the first failure of a rank, after it has ended the group for all others; in a process,
/// what its own rank threw. See launch_from() and detail::rendezvous() for those of the start.
template <class F>
requires std::is_invocable_v<F&, group&>
void run_ranks(int size, F&& body, group_options const& options = {}) {
  expects(options.deadline.count() > 0, "the deadline must be positive");
  auto const job = launch_from_environment();
  log(log_level::info, job ? job->rank : -1, [&] {
    return "run_ranks(" + std::to_string(size) + "): " +
           (job ? std::string{job->launcher} + " started this process as one rank" : "threads");
  });
  if (!job) {
    expects(size >= 0 && size <= max_ranks,
            "run_ranks: " + std::to_string(size) + " ranks are not possible: a group has 1 to " +
              std::to_string(max_ranks) + ", all of one host",
            "use the Nccl transport for more ranks or several hosts");
    detail::run_threads(size == 0 ? 1 : size, body, options);
    return;
  }
  expects(size == 0 || size == job->size,
          "run_ranks: the program wants " + std::to_string(size) + " ranks, but " +
            std::string{job->launcher} + " started " + std::to_string(job->size),
          "pass 0 to take what the launcher started");
  detail::run_process(*job, body, options);
}

}  // namespace tpx
