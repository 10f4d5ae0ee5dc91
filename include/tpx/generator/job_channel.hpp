// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/job.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx::detail {

/// A callback whose type is forgotten.
struct listener {
  virtual ~listener() = default;
  virtual void hear(fresh_output const& news) = 0;
};

template <class F>
struct listener_of final : listener {
  explicit listener_of(F f) : call{std::move(f)} {}
  void hear(fresh_output const& news) override { call(news); }
  F call;
};

/// What is reserved for the output of a job.
struct output_room {
  std::size_t sequences = 1;
  std::size_t tokens = 0;    // of each, new ones
  std::size_t scores = 0;    // of each token
  std::size_t tops = 0;      // of each token
  std::size_t raw_tops = 0;  // of each token
};

/// Between the generator's thread, which writes, and a job's user, who reads when he likes: what is
/// written grows, and nobody waits for a reader.
class job_channel {
 public:
  /// `cancels` is counted up with every cancel().
  job_channel(job_id id, output_room const& room, std::unique_ptr<listener> listens,
              std::shared_ptr<std::atomic<std::size_t>> cancels)
      : id_{id},
        all_(room.sequences),
        read_(room.sequences),
        open_{room.sequences},
        listener_{std::move(listens)},
        cancels_{std::move(cancels)} {
    for (std::size_t s = 0; s < room.sequences; ++s) {
      all_[s].sequence = s;
      all_[s].text.reserve(8 * room.tokens);
      all_[s].tokens.reserve(room.tokens);
      all_[s].scores.reserve(room.tokens * room.scores);
      all_[s].top.reserve(room.tokens * room.tops);
      all_[s].raw_top.reserve(room.tokens * room.raw_tops);
    }
  }

  [[nodiscard]] job_id id() const { return id_; }

  void cancel() {
    cancelled_.store(true, std::memory_order_relaxed);
    cancels_->fetch_add(1, std::memory_order_release);
  }
  [[nodiscard]] bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  /// Passes on what the callback throws; a sequence that has ended has ended none the less.
  void add(fresh_output const& news) {
    {
      std::lock_guard const lock{mutex_};
      auto& to = all_[news.sequence];
      to.text += news.text;
      to.tokens.insert(to.tokens.end(), news.tokens.begin(), news.tokens.end());
      to.scores.insert(to.scores.end(), news.scores.begin(), news.scores.end());
      to.top.insert(to.top.end(), news.top.begin(), news.top.end());
      to.raw_top.insert(to.raw_top.end(), news.raw_top.begin(), news.raw_top.end());
      if (news.reason != finish_reason::none) {
        to.reason = news.reason;
        to.error = news.error;
        to.metrics = news.metrics;
        --open_;
      }
    }
    news_.notify_all();
    if (listener_) { listener_->hear(news); }
  }

  /// What no call has returned yet of one sequence; nothing if none came within `timeout`, or all
  /// was returned.
  std::optional<generated> next(std::chrono::milliseconds timeout) {
    std::unique_lock lock{mutex_};
    std::size_t s = 0;
    news_.wait_for(lock, timeout, [&] { return (s = unread()) < all_.size() || open_ == 0; });
    if (s == all_.size()) { return std::nullopt; }
    auto const& from = all_[s];
    auto& read = read_[s];
    generated piece = {.sequence = s,
                       .text = from.text.substr(read.text),
                       .tokens = rest(from.tokens, read.tokens),
                       .scores = rest(from.scores, read.scores),
                       .top = rest(from.top, read.top),
                       .raw_top = rest(from.raw_top, read.raw_top),
                       .reason = from.reason,
                       .error = from.error,
                       .metrics = from.metrics};
    read = {from.text.size(), from.tokens.size(),  from.scores.size(),
            from.top.size(),  from.raw_top.size(), from.reason != finish_reason::none};
    return piece;
  }

  /// All sequences, when all have ended, or as far as they are after `timeout`.
  std::vector<generated> wait(std::chrono::milliseconds timeout) {
    std::unique_lock lock{mutex_};
    news_.wait_for(lock, timeout, [&] { return open_ == 0; });
    return all_;
  }

  [[nodiscard]] bool done() {
    std::lock_guard const lock{mutex_};
    return open_ == 0;
  }

 private:
  struct cursor {
    std::size_t text = 0;
    std::size_t tokens = 0;
    std::size_t scores = 0;
    std::size_t top = 0;
    std::size_t raw_top = 0;
    bool end = false;
  };

  template <class T>
  static std::vector<T> rest(std::vector<T> const& of, std::size_t from) {
    return {of.begin() + static_cast<std::ptrdiff_t>(from), of.end()};
  }

  [[nodiscard]] std::size_t unread() const {
    std::size_t s = 0;
    while (s < all_.size() && read_[s].text == all_[s].text.size() &&
           read_[s].tokens == all_[s].tokens.size() &&
           read_[s].end == (all_[s].reason != finish_reason::none)) {
      ++s;
    }
    return s;
  }

  job_id id_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::vector<generated> all_;  // a sequence each
  std::vector<cursor> read_;
  std::size_t open_;  // sequences that have not ended
  std::unique_ptr<listener> listener_;
  std::atomic<bool> cancelled_ = false;
  std::shared_ptr<std::atomic<std::size_t>> cancels_;
};

}  // namespace tpx::detail

namespace tpx {

/// A user's end of a job. May be copied, used from any thread, and outlive the generator; the job
/// goes on without it.
class job {
 public:
  explicit job(std::shared_ptr<detail::job_channel> channel) : channel_{std::move(channel)} {}

  [[nodiscard]] job_id id() const { return channel_->id(); }

  /// Ends it with the next step, wherever it is. After its end: nothing.
  void cancel() const { channel_->cancel(); }

  /// Waits for news of any of its sequences: what came since the last call. Nothing if none comes
  /// within `timeout`, and, at once, when all has been told.
  [[nodiscard]] std::optional<generated> next(std::chrono::milliseconds timeout) const {
    return channel_->next(timeout);
  }

  /// All sequences from their beginning, when all have ended or after `timeout`.
  [[nodiscard]] std::vector<generated> wait(std::chrono::milliseconds timeout) const {
    return channel_->wait(timeout);
  }

  [[nodiscard]] bool done() const { return channel_->done(); }

 private:
  std::shared_ptr<detail::job_channel> channel_;
};

}  // namespace tpx
