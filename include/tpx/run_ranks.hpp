// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/group.hpp>

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace tpx {
namespace detail {

/// Runs one rank's body. Whatever it throws first ends the group for the other ranks.
template <class F>
void run_rank(group& g, F& body, auto&& on_failure) {
  try {
    body(g);
  } catch (error const& e) {
    on_failure(std::current_exception());
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

/// One thread a rank, all of this process.
template <class F>
void run_threads(int size, F& body, group_options const& options) {
  auto const shared = std::make_shared<thread_world>(size);
  std::mutex mutex;
  std::exception_ptr first;
  auto const keep_first = [&](std::exception_ptr e) {
    std::lock_guard const lock{mutex};
    if (!first) { first = std::move(e); }
  };
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        group g{shared, rank, size, options};
        run_rank(g, body, keep_first);
      });
    }
  }
  if (first) { std::rethrow_exception(first); }
}

}  // namespace detail
}  // namespace tpx
