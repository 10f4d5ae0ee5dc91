// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/queue.hpp>
#include <tpx/generator/scheduler_run.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace tpx::detail {

/// Which runs are running and which wait.
///
/// A run is admitted when it is the first that waits and the page table has pages for its tokens
/// and for the room it claims. Where they lack and it has a higher priority than others
/// that are running, the last of those gives up its pages and waits again, in its old place. What
/// is given up stays in the cache until it is needed, so little is computed twice.
template <class Pages, class Run>
class scheduler {
 public:
  using run_ptr = std::unique_ptr<Run>;

  explicit scheduler(Pages& pages) : pages_{pages} {}

  void enqueue(run_ptr run) {
    run->place.arrival = ++arrivals_;
    waiting_.insert(std::move(run));
  }

  /// Admits what can be admitted. start(run), called for each, returns false if its pages do not
  /// suffice; then it waits again.
  template <class F>
  void admit(F&& start) {
    while (!waiting_.empty() && make_way(*waiting_.front())) {
      Run& run = *waiting_.front();
      running_.insert(waiting_.take(0));
      if (!start(run)) {
        waiting_.insert(release(run));
        return;
      }
    }
  }

  /// Brings host pages of the first that wait back while others run, each run's once; stops when
  /// that comes to `most` page moves.
  void fetch_ahead(std::size_t most) {
    constexpr std::size_t looked_at = 16;  // runs
    for (std::size_t i = 0; i < std::min(waiting_.size(), looked_at) && most > 0; ++i) {
      Run& run = *waiting_[i];
      for (; run.ahead < run.contexts.size(); ++run.ahead) {
        auto const before = pages_.host_moves().size();
        pages_.prefetch(run.contexts[run.ahead].tokens, run.salt, most);
        auto const moved = pages_.host_moves().size() - before;
        if (moved >= most) { return; }  // there may be more
        most -= moved;
      }
    }
  }

  /// Gives `run`, which has used up its room, more; or puts it back in the queue, behind those that
  /// came in the meantime, if others as important wait or there are no pages.
  void extend(Run& run) {
    auto const room = std::min(run.most_room, run.left);
    bool const alone = waiting_.empty() || waiting_.front()->place.priority < run.place.priority;
    bool const enough =
      alone && std::all_of(run.contexts.begin(), run.contexts.end(), [&](auto const& c) {
        return pages_.grow(c.sequence, c.pending() + room - 1);
      });
    if (enough) {
      run.room = room;
    } else {
      auto taken = release(run);
      enqueue(std::move(taken));
    }
  }

  /// Takes a running run out and gives its pages back.
  run_ptr release(Run& run) {
    for (auto& c : run.contexts) { close(c); }
    run.ahead = 0;
    return take(running_, run);
  }

  /// Takes a run out wherever it is.
  run_ptr remove(Run& run) { return contains(running_, run) ? release(run) : take(waiting_, run); }

  /// The first run for which `wanted(run)`; null if there is none.
  template <class F>
  [[nodiscard]] Run* find(F&& wanted) const {
    for (auto const* runs : {&running_, &waiting_}) {
      for (auto const& run : *runs) {
        if (wanted(*run)) { return run.get(); }
      }
    }
    return nullptr;
  }

  [[nodiscard]] ordered<run_ptr> const& running() const { return running_; }
  [[nodiscard]] ordered<run_ptr> const& waiting() const { return waiting_; }

 private:
  bool make_way(Run& run) {
    while (!open(run)) {
      if (running_.empty() || running_.back()->place.priority >= run.place.priority) {
        return false;
      }
      auto victim = release(*running_.back());
      waiting_.insert(std::move(victim));
    }
    return true;
  }

  /// Claims pages for all contexts, or nothing.
  bool open(Run& run) {
    run.room = std::min(run.most_room, run.left);
    for (std::size_t i = 0; i < run.contexts.size(); ++i) {
      auto& c = run.contexts[i];
      auto const opened = pages_.open(c.tokens, run.room - 1, run.salt);  // the last is not fed
      if (!opened) {
        while (i-- > 0) { close(run.contexts[i]); }
        return false;
      }
      c.sequence = opened->sequence;
      c.cached = opened->cached;
    }
    return true;
  }

  void close(context& c) {
    pages_.close(c.sequence);
    c.cached = 0;
  }

  static bool contains(ordered<run_ptr> const& in, Run const& run) {
    return std::any_of(in.begin(), in.end(), [&](auto const& r) { return r.get() == &run; });
  }

  static run_ptr take(ordered<run_ptr>& from, Run const& run) {
    auto const at =
      std::find_if(from.begin(), from.end(), [&](run_ptr const& r) { return r.get() == &run; });
    return from.take(static_cast<std::size_t>(at - from.begin()));
  }

  Pages& pages_;
  ordered<run_ptr> waiting_;
  ordered<run_ptr> running_;
  std::uint64_t arrivals_ = 0;
};

}  // namespace tpx::detail
