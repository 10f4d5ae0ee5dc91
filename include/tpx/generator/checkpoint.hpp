// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/page_chains.hpp>
#include <tpx/generator/page_hash.hpp>
#include <tpx/generator/page_list.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace tpx {

/// After how many full pages of a sequence its recurrent state is kept.
struct checkpoint_rule {
  std::size_t prompt = 128;  // every so many pages while the prompt is read, and at its last page
  std::size_t text = 8;      // every so many pages of what is generated

  /// The page count to keep the state at next, after `pages` full ones; `prompt_pages` of all are
  /// full with the prompt alone. A forward must end there: the state is not to be had later.
  [[nodiscard]] constexpr std::size_t next(std::size_t pages, std::size_t prompt_pages) const {
    if (pages < prompt_pages) { return std::min((pages / prompt + 1) * prompt, prompt_pages); }
    return (pages / text + 1) * text;
  }
};

/// Recurrent states in host memory, each as of the end of a page, so that a sequence which begins
/// with the same pages need not be read from its start.
///
/// A state goes with its page, for none can resume where the page is no longer in the cache; when
/// the store is full, the least recently used makes room. States have one size and all memory is
/// taken at once: nothing is allocated later, and save, find and evicted are O(1) besides the
/// copying.
class checkpoint_store {
 public:
  /// A sequence's longest beginning that it can resume after; no pages and no bytes: none.
  struct resumable {
    std::size_t pages;
    std::span<std::byte const> state;
  };

  /// Room for budget / state_bytes states, perhaps none. The system gives the memory as states are
  /// written to it. Throws invalid_argument for states of no bytes.
  checkpoint_store(std::size_t state_bytes, std::size_t budget)
      : checkpoint_store{state_bytes, budget, std::make_unique_for_overwrite<std::byte[]>(budget)} {
  }

  /// The same in the caller's memory, pinned perhaps, which must outlive this.
  checkpoint_store(std::size_t state_bytes, std::span<std::byte> memory)
      : checkpoint_store{state_bytes, memory.size(), nullptr} {
    memory_ = memory.data();
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return keys_.size(); }

  /// Whether its state is kept; counts as no use of it.
  [[nodiscard]] bool contains(hash128 const& key) const { return find(key) != detail::no_page; }

  /// Keeps the state after page `key`, which `fill` is to write to the bytes that it is called
  /// with. False if that state is kept already, or if there is no room for any; fill is not called
  /// then. If fill throws, the state is not kept.
  template <std::invocable<std::span<std::byte>> Fill>
  bool save(hash128 const& key, Fill&& fill) {
    if (keys_.empty() || use(key) != detail::no_page) { return false; }
    auto const at = recent_.previous(recent_.end());
    if (keys_[at].kept) { drop(at); }
    std::forward<Fill>(fill)(std::span{memory_ + at * bytes_, bytes_});
    keys_[at] = {key, true};
    places_.insert(at, key.low);
    ++size_;
    move_before(recent_.front(), at);
    return true;
  }

  /// keys: those of a sequence's pages that are in the cache, from its first on. The bytes are good
  /// until the next save(). O(keys).
  [[nodiscard]] resumable longest(std::span<hash128 const> keys) {
    for (auto pages = keys.size(); pages > 0; --pages) {
      if (auto const at = use(keys[pages - 1]); at != detail::no_page) {
        return {pages, {memory_ + at * bytes_, bytes_}};
      }
    }
    return {0, {}};
  }

  /// Page `key` is no longer in the cache: neither is its state, if it was kept.
  void evicted(hash128 const& key) {
    if (auto const at = find(key); at != detail::no_page) {
      drop(at);
      move_before(recent_.end(), at);
    }
  }

  /// Forgets all.
  void clear() {
    for (std::uint32_t at = 0; at < keys_.size(); ++at) {
      if (keys_[at].kept) { drop(at); }
    }
  }

 private:
  struct place {
    hash128 key;
    bool kept = false;
  };

  checkpoint_store(std::size_t state_bytes, std::size_t budget, std::unique_ptr<std::byte[]> owned)
      : bytes_{checked(state_bytes)},
        owned_{std::move(owned)},
        memory_{owned_.get()},
        keys_(budget / bytes_),
        places_{keys_.size()},
        recent_{keys_.size()} {
    for (std::uint32_t at = 0; at < keys_.size(); ++at) { recent_.push_back(at); }
  }

  static std::size_t checked(std::size_t state_bytes) {
    expects(state_bytes > 0, "a checkpoint store for states of 0 bytes",
            "a model without recurrent state needs none");
    return state_bytes;
  }

  [[nodiscard]] std::uint32_t find(hash128 const& key) const {
    auto at = places_.first(key.low);
    while (at != detail::no_page && !(keys_[at].key == key)) { at = places_.next(at); }
    return at;
  }
  std::uint32_t use(hash128 const& key) {
    auto const at = find(key);
    if (at != detail::no_page) { move_before(recent_.front(), at); }
    return at;
  }
  void drop(std::uint32_t at) {
    places_.erase(at, keys_[at].key.low);
    keys_[at].kept = false;
    --size_;
  }
  void move_before(std::uint32_t next, std::uint32_t at) {
    if (next == at) { return; }
    recent_.erase(at);
    recent_.insert_before(next, at);
  }

  std::size_t bytes_;                   // of a state
  std::unique_ptr<std::byte[]> owned_;  // empty: the caller's
  std::byte* memory_;
  std::vector<place> keys_;
  detail::page_chains places_;
  detail::page_list recent_;  // all places, those to be taken next at the end
  std::size_t size_ = 0;
};

}  // namespace tpx
