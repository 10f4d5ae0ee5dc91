// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/checkpoint.hpp>
#include <tpx/generator/generator_options.hpp>
#include <tpx/generator/model.hpp>
#include <tpx/generator/scheduler_run.hpp>
#include <tpx/generator/state_savepoint.hpp>

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace tpx::detail {

/// Where a context's positions are taken over from the cache or taken back, a recurrent state has
/// to follow. This is for models without.
template <class Model, class Pages>
struct recurrent_states {
  recurrent_states(Model&, Pages&, checkpoint_options const&, std::size_t) {}
  bool open(context&, std::size_t) { return true; }
  void before_draft(context const&) {}
  bool after(context&, std::size_t, std::size_t) { return true; }
  void evicted(hash128 const&) {}
  void clear() {}
};

template <recurrent_model Model, class Pages>
class recurrent_states<Model, Pages> {
 public:
  static constexpr std::size_t page_size = Model::page_size;

  recurrent_states(Model& model, Pages& pages, checkpoint_options const& how, std::size_t slots)
      : model_{model},
        pages_{pages},
        rule_{how.rule},
        store_{model.state_bytes(), how.bytes},
        drafts_(slots, state_savepoint<Model>{model}) {}

  /// `c` has been opened: begins behind the longest start whose state is kept. `prompt`: tokens of
  /// `c` that are its prompt. Returns false if its pages do not suffice for its room any more.
  [[nodiscard]] bool open(context& c, std::size_t prompt) {
    static_cast<void>(drafts_[c.sequence].cut(c.sequence, 0, 0));  // what another sequence left
    bool const enough = resume(c);
    set_stop(c, prompt);
    return enough;
  }

  void before_draft(context const& c) { drafts_[c.sequence].save(c.sequence, c.cached); }

  /// The model's state has seen `seen` tokens of `c`, of which c.cached are still so: goes back
  /// where those are fewer, and keeps the state where the rule says so. Returns as open() does.
  [[nodiscard]] bool after(context& c, std::size_t seen, std::size_t prompt) {
    bool enough = true;
    if (seen > c.cached) {
      auto const back = drafts_[c.sequence].cut(c.sequence, c.cached + 1, seen);
      enough = back > 0 ? go_back(c, back) : resume(c);
    } else if (seen == c.stop) {
      store_.save(pages_.key(c.sequence, seen / page_size - 1),
                  [&](std::span<std::byte> to) { model_.save_state(c.sequence, to); });
    }
    set_stop(c, prompt);
    return enough;
  }

  void evicted(hash128 const& key) { store_.evicted(key); }
  void clear() { store_.clear(); }

 private:
  [[nodiscard]] bool resume(context& c) {
    keys_.clear();
    for (std::size_t page = 0; page < c.cached / page_size; ++page) {
      keys_.push_back(pages_.key(c.sequence, page));
    }
    auto const found = store_.longest(keys_);
    model_.load_state(c.sequence, found.state);
    return go_back(c, found.pages * page_size);
  }

  [[nodiscard]] bool go_back(context& c, std::size_t length) {
    bool const same = std::exchange(c.cached, length) == length;
    return same || pages_.rewind(c.sequence, length);
  }

  void set_stop(context& c, std::size_t prompt) {
    c.stop = rule_.next(c.cached / page_size, prompt / page_size) * page_size;
  }

  Model& model_;
  Pages& pages_;
  checkpoint_rule rule_;
  checkpoint_store store_;
  std::vector<state_savepoint<Model>> drafts_;  // by slot
  std::vector<hash128> keys_;
};

}  // namespace tpx::detail
