// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/host_thread.hpp>
#include <tpx/runtime/shared_memory.hpp>

#include <memory>
#include <mutex>
#include <new>

namespace tpx {

/// What one rank got from another: from a thread of this process the object itself, from another
/// process a descriptor of it.
struct handed {
  std::shared_ptr<void> object;
  unique_fd fd;
};

/// What differs between ranks that are threads and ranks that are processes: how the control block
/// and further objects get from one rank to the others.
class world {
 public:
  virtual ~world() = default;
  [[nodiscard]] virtual control_block& control() = 0;
  [[nodiscard]] virtual bool processes() const = 0;

  /// The group is from now on `me`: after its start and after each reset().
  virtual void follow(member const&) {}

  /// The giver's side of handing an object, of which `fd` is a descriptor, to all other ranks of
  /// `me`'s group. Does not wait for them.
  virtual void offer(member const& me, std::shared_ptr<void> const& object, int fd) = 0;

  /// The others' side, called once offer() of rank `from` is known to have returned. Does not wait.
  /// Empty if `from` has let go of the object since.
  [[nodiscard]] virtual handed take(member const& me, int from) = 0;
};

/// Ranks that are threads of this process: what one makes, all share.
class thread_world final : public world {
 public:
  explicit thread_world(int size)
      : memory_{std::make_shared<shared_memory>(shared_memory::create(sizeof(control_block)))} {
    memory_->close_fd();
    auto& block = *::new (memory_->data()) control_block{};
    block.magic = control_block::magic_value;
    block.world = size;
  }

  [[nodiscard]] control_block& control() override {
    return *std::launder(reinterpret_cast<control_block*>(memory_->data()));
  }
  [[nodiscard]] bool processes() const override { return false; }

  void offer(member const& me, std::shared_ptr<void> const& object, int) override {
    std::lock_guard const lock{mutex_};
    offered_[me.seat[me.rank]] = object;
  }

  [[nodiscard]] handed take(member const& me, int from) override {
    std::lock_guard const lock{mutex_};
    return {offered_[me.seat[from]].lock(), {}};
  }

 private:
  std::shared_ptr<shared_memory> memory_;
  std::mutex mutex_;
  std::weak_ptr<void> offered_[max_ranks];  // by starting rank
};

}  // namespace tpx
