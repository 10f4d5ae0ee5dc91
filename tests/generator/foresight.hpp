// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "fake_models.hpp"

#include <tpx/generator/drafter.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fake {

/// Drafts what a hash model will say, but for every `wrong`-th token.
class foresight {
 public:
  foresight(std::size_t vocab, std::size_t wrong) : vocab_{vocab}, wrong_{wrong} {}

  void open(std::uint32_t, std::size_t) {}
  void propose(std::span<tpx::draft_request const> requests) {
    for (auto const& r : requests) {
      if (drafts_.size() <= r.slot) { drafts_.resize(r.slot + 1); }
      auto all = std::vector<token_id>{r.tokens.begin(), r.tokens.end()};
      std::vector<float> row(vocab_);
      while (all.size() < r.tokens.size() + r.most) {
        write_logits(row, hash_of(all));
        auto const best = std::max_element(row.begin(), row.end()) - row.begin();
        all.push_back(static_cast<token_id>(all.size() % wrong_ == 0 ? 0 : best));
      }
      drafts_[r.slot] = {all.begin() + static_cast<std::ptrdiff_t>(r.tokens.size()), all.end()};
    }
  }
  [[nodiscard]] std::span<token_id const> tokens(std::uint32_t slot) const {
    return slot < drafts_.size() ? drafts_[slot] : std::span<token_id const>{};
  }
  [[nodiscard]] tpx::token_distribution drawn_from(std::uint32_t, std::size_t) const { return {}; }
  void rewind(std::uint32_t, std::size_t) {}
  void copy(std::span<page_copy const>) {}

 private:
  std::size_t vocab_;
  std::size_t wrong_;
  std::vector<std::vector<token_id>> drafts_;
};

}  // namespace fake
