// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace tpx::detail {

/// Where any thread puts what the generator's thread takes. Taking from an empty one is one load.
template <class T>
class inbox {
 public:
  void post(T item) {
    {
      std::lock_guard const lock{mutex_};
      items_.push_back(std::move(item));
      filled_.store(true, std::memory_order_release);
    }
    arrived_.notify_one();
  }

  /// Hands each item, oldest first, to take(T&&).
  template <class F>
  void drain(F&& take) {
    if (!filled_.load(std::memory_order_acquire)) { return; }
    {
      std::lock_guard const lock{mutex_};
      taken_.swap(items_);
      filled_.store(false, std::memory_order_relaxed);
    }
    for (auto& item : taken_) { take(std::move(item)); }
    taken_.clear();
  }

  /// Returns when there is something.
  void wait() {
    std::unique_lock lock{mutex_};
    arrived_.wait(lock, [&] { return !items_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::atomic<bool> filled_ = false;
  std::vector<T> items_;
  std::vector<T> taken_;
};

/// A job's place: the largest priority first, within one the first come.
struct rank_in_queue {
  int priority = 0;
  std::uint64_t arrival = 0;

  [[nodiscard]] friend constexpr bool operator<(rank_in_queue a, rank_in_queue b) {
    return a.priority != b.priority ? a.priority > b.priority : a.arrival < b.arrival;
  }
};

/// Pointers (T is one) to things with a `place`, kept in its order. O(log n) compares and O(n)
/// moves of pointers to insert, O(1) to look at the first and to take the last.
template <class T>
class ordered {
 public:
  void insert(T item) {
    auto const after = std::upper_bound(items_.begin(), items_.end(), item->place,
                                        [](auto a, auto const& b) { return a < b->place; });
    items_.insert(after, std::move(item));
  }
  [[nodiscard]] T take(std::size_t index) {
    T item = std::move(items_[index]);
    items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(index));
    return item;
  }
  [[nodiscard]] T const& operator[](std::size_t index) const { return items_[index]; }
  [[nodiscard]] T const& front() const { return items_.front(); }
  [[nodiscard]] T const& back() const { return items_.back(); }
  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] bool empty() const { return items_.empty(); }
  [[nodiscard]] auto begin() const { return items_.begin(); }
  [[nodiscard]] auto end() const { return items_.end(); }

 private:
  std::vector<T> items_;
};

}  // namespace tpx::detail
