// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/runtime/host_thread.hpp>
#include <tpx/runtime/shared_memory.hpp>

#include <memory>
#include <mutex>
#include <new>

namespace tpx {

/// What differs between ranks that are threads and ranks that are processes: how the control block
/// and further memory get from one rank to the others.
class world {
 public:
  virtual ~world() = default;
  [[nodiscard]] virtual control_block& control() = 0;
  [[nodiscard]] virtual bool processes() const = 0;

  /// The group is from now on `me`: after its start and after each reset().
  virtual void follow(member const&) {}

  /// Root's side of handing memory to all other ranks of `me`'s group. Does not wait for them.
  virtual void offer(member const& me, std::shared_ptr<shared_memory> const& memory) = 0;

  /// The others' side, called once root's offer() is known to have returned. Does not wait.
  [[nodiscard]] virtual std::shared_ptr<shared_memory> take(member const& me, int root,
                                                            std::size_t bytes) = 0;
};

/// Ranks that are threads of this process: memory is mapped once and its owner shared.
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

  void offer(member const& me, std::shared_ptr<shared_memory> const& memory) override {
    std::lock_guard const lock{mutex_};
    offered_[me.seat[me.rank]] = memory;
  }

  [[nodiscard]] std::shared_ptr<shared_memory> take(member const& me, int root,
                                                    std::size_t) override {
    std::lock_guard const lock{mutex_};
    return offered_[me.seat[root]].lock();
  }

 private:
  std::shared_ptr<shared_memory> memory_;
  std::mutex mutex_;
  std::weak_ptr<shared_memory> offered_[max_ranks];
};

}  // namespace tpx
