// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/page_admission.hpp>
#include <tpx/generator/queue.hpp>
#include <tpx/generator/scheduler_run.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace tpx::detail {

/// Which runs are running and which wait.
///
/// A run is admitted when it is the first that waits and the page table has pages for its tokens
/// and for the room it claims. Where they lack, the last of those that are running with a lower
/// priority give up theirs and wait again, in their old places, if that is enough. What is given up
/// stays in the cache until it is needed, so little is computed twice. A run that was refused is
/// tried again when the page table has more for it than it had.
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
    while (!waiting_.empty() && may_fit(*waiting_.front()) && make_way(*waiting_.front())) {
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
      ++run.requeues;
      enqueue(release(run));
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
  /// Whether it was not refused, or there is more now.
  [[nodiscard]] bool may_fit(Run const& run) const {
    return run.place.arrival != refused_ || pages_.eased(shortage_);
  }

  bool make_way(Run& run) {
    if (open(run)) { return true; }
    for (auto victims = enough_victims(run); victims > 0; --victims) {
      Run& victim = *running_.back();
      ++victim.preemptions;
      waiting_.insert(release(victim));
      if (open(run)) { return true; }
    }
    refused_ = run.place.arrival;
    shortage_ = pages_.shortage();
    return false;
  }

  /// How many of those running have a lower priority, if `run` fits without them; else 0.
  [[nodiscard]] std::size_t enough_victims(Run const& run) {
    victims_.clear();
    std::size_t count = 0;
    while (count < running_.size()) {
      Run const& last = *running_[running_.size() - 1 - count];
      if (last.place.priority >= run.place.priority) { break; }
      for (auto const& c : last.contexts) { victims_.push_back(c.sequence); }
      ++count;
    }
    if (count == 0) { return 0; }
    wishes_.clear();
    for (auto const& c : run.contexts) { wishes_.push_back({c.tokens, run.room - 1, run.salt}); }
    return pages_.fit_without(wishes_, victims_) ? count : 0;
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
  std::uint64_t refused_ = 0;  // the arrival of the run that was last refused; 0: none
  page_shortage shortage_ = {};
  std::vector<std::uint32_t> victims_;  // their sequences
  std::vector<page_wish> wishes_;
};

}  // namespace tpx::detail
