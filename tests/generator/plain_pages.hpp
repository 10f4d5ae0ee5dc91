// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>
#include <tpx/generator/page_admission.hpp>
#include <tpx/generator/page_hash.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace fake {

/// A page table that shares nothing and keeps nothing, to compare with one that does.
template <std::size_t PageSize>
class plain_pages {
 public:
  struct options {
    std::size_t pages;
    std::size_t host_pages;
    std::size_t max_sequences;
  };
  using sequence_id = std::uint32_t;
  struct opened {
    sequence_id sequence;
    std::size_t cached;
  };

  explicit plain_pages(options const& o) : tables_(o.max_sequences), lengths_(o.max_sequences) {
    for (std::size_t s = 0; s < o.max_sequences; ++s) {
      ids_.push_back(static_cast<sequence_id>(s));
    }
    for (std::size_t p = 0; p < o.pages; ++p) { free_.push_back(static_cast<tpx::page_id>(p)); }
  }

  std::optional<opened> open(std::span<tpx::token_id const> tokens, std::size_t room,
                             std::uint64_t = 0) {
    ++tries;
    if (ids_.empty()) { return std::nullopt; }
    auto const id = ids_.back();
    lengths_[id] = 0;
    if (!grow(id, tokens.size() + room)) { return std::nullopt; }
    ids_.pop_back();
    return opened{id, 0};
  }
  [[nodiscard]] tpx::page_shortage shortage() const { return {free_.size(), ids_.size(), {}, 0}; }
  [[nodiscard]] bool eased(tpx::page_shortage const& since) const {
    return free_.size() > since.pages || ids_.size() > since.sequences;
  }
  [[nodiscard]] bool fit_without(std::span<tpx::page_wish const> wanted,
                                 std::span<sequence_id const> closing) const {
    std::size_t spare = free_.size();
    for (auto const s : closing) { spare += tables_[s].size(); }
    std::size_t needed = 0;
    for (auto const& w : wanted) { needed += (w.tokens.size() + w.room + PageSize - 1) / PageSize; }
    return needed <= spare && wanted.size() <= ids_.size() + closing.size();
  }
  bool grow(sequence_id s, std::size_t room) {
    std::size_t const wanted = (lengths_[s] + room + PageSize - 1) / PageSize;
    if (wanted > tables_[s].size() + free_.size()) { return false; }
    while (tables_[s].size() < wanted) {
      tables_[s].push_back(free_.back());
      free_.pop_back();
    }
    return true;
  }
  void append(sequence_id s, std::span<tpx::token_id const> tokens) {
    lengths_[s] += tokens.size();
  }
  std::span<tpx::page_id const> prepare(sequence_id s, std::size_t) { return tables_[s]; }
  bool rewind(sequence_id s, std::size_t length) {
    lengths_[s] = length;
    return true;
  }
  void close(sequence_id s) {
    free_.insert(free_.end(), tables_[s].begin(), tables_[s].end());
    tables_[s].clear();
    ids_.push_back(s);
  }
  [[nodiscard]] std::span<tpx::page_id const> pages(sequence_id s) const { return tables_[s]; }
  [[nodiscard]] std::size_t length(sequence_id s) const { return lengths_[s]; }
  [[nodiscard]] std::span<tpx::page_copy const> copies() const { return {}; }
  std::size_t defragment(std::size_t) { return 0; }
  template <class Model>
  void carry_out(Model&) {}
  [[nodiscard]] std::span<tpx::hash128 const> evicted() const { return {}; }
  void evicted_done() {}

  std::size_t tries = 0;  // calls of open()

 private:
  std::vector<std::vector<tpx::page_id>> tables_;
  std::vector<std::size_t> lengths_;
  std::vector<tpx::page_id> free_;
  std::vector<sequence_id> ids_;
};

}  // namespace fake
