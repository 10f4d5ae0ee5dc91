// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/draft_choice.hpp>
#include <tpx/generator/draft_pages.hpp>
#include <tpx/generator/drafter.hpp>
#include <tpx/generator/model.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tpx {

struct model_draft_options {
  std::size_t slots = 256;   // sequences at a time
  std::size_t most = 16;     // tokens of a draft
  std::size_t chunk = 2048;  // tokens of a sequence that one propose() reads at most
};

/// Drafts by a smaller model with the target's vocabulary, page size and number of pages.
///
/// Its cache has the target's block tables, and follows all copies and moves: what the draft model
/// has read for one sequence, another finds in its pages. A model with store() and fetch() keeps
/// pages in host memory as the target does; one without reads such pages again. `Choice` chooses a
/// token from a row of logits: greedy_choice, random_choice. A draft of n tokens takes n forwards,
/// each of all sequences; a prompt is read in chunks, with no draft for that sequence until its
/// end.
template <generator_model Model, class Choice = greedy_choice>
class model_draft {
 public:
  static constexpr std::size_t page_size = Model::page_size;

  /// Throws unsupported for a model with recurrent state, which cannot forget a refused draft.
  explicit model_draft(Model& model, model_draft_options const& how = {}, Choice choice = {})
      : model_{model},
        choice_{std::move(choice)},
        how_{how},
        pages_{model.pages(), host_pages_of(model)},
        sequences_(how.slots) {
    if constexpr (recurrent_model<Model>) {
      if (model.state_bytes() > 0) {
        throw error{errc::unsupported,
                    "the draft model has recurrent state, which cannot forget a refused draft",
                    {.remedy = "draft with a model of attention layers, or by n-grams"}};
      }
    }
    for (auto& s : sequences_) { s.draft.reserve(how.most); }
    parts_.reserve(how.slots);
    drafting_.reserve(how.slots);
  }

  [[nodiscard]] std::size_t pages() const { return model_.pages(); }

  /// Throws invalid_argument for a slot beyond the options' slots.
  void open(std::uint32_t slot, std::size_t cached) {
    detail::expect_slot(slot, sequences_.size());
    sequences_[slot].known = cached;
    sequences_[slot].reader = {};
    sequences_[slot].forget();
  }

  void propose(std::span<draft_request const> requests) {
    plan(requests);
    if (parts_.empty()) { return; }
    auto logits = model_.forward(parts_);
    // Not before: what a forward that throws has written is not known.
    for (auto const& part : parts_) { sequences_[part.slot].known += part.tokens.size(); }
    for (auto const& r : requests) {  // so that others find them; where they are merged shows then
      auto reader = sequences_[r.slot].reader;
      static_cast<void>(pages_.held(reader, r.tokens, r.pages, sequences_[r.slot].known));
    }
    for (choose(logits); !parts_.empty(); choose(logits)) { logits = model_.forward(parts_); }
  }

  [[nodiscard]] std::span<token_id const> tokens(std::uint32_t slot) const {
    return sequences_[slot].draft;
  }
  [[nodiscard]] token_distribution drawn_from(std::uint32_t slot, std::size_t i) const {
    auto const& s = sequences_[slot];
    auto const begin = i == 0 ? 0 : s.ends[i - 1];
    return token_distribution{s.candidates}.subspan(begin, s.ends[i] - begin);
  }

  void rewind(std::uint32_t slot, std::size_t length) {
    auto& s = sequences_[slot];
    // What is left of the draft, and a token that was not: the last one is in no cache.
    s.draft.resize(std::min(s.draft.size(), length - std::min(length, s.known) + 1));
    s.known = std::min(s.known, length);
    pages_.rewind(s.reader, length);
  }

  void copy(std::span<page_copy const> copies) {
    try {
      model_.copy(copies);
    } catch (...) {
      for (auto const& c : copies) { pages_.forget(c.to); }
      for (auto& s : sequences_) { pages_.rewind(s.reader, 0); }  // they may have these pages
      throw;
    }
    for (auto const& c : copies) { pages_.copy(c); }
  }
  void store(page_id page, std::uint32_t host, std::size_t tokens) requires tiered_model<Model> {
    if (host >= model_.host_pages()) { return; }
    pages_.forget_host(host);
    model_.store(page, host, tokens);
    pages_.store(page, host);
  }
  void fetch(std::uint32_t host, page_id page, std::size_t tokens) requires tiered_model<Model> {
    if (host >= model_.host_pages()) { return; }
    pages_.forget(page);
    model_.fetch(host, page, tokens);
    pages_.fetch(host, page);
  }

 private:
  using page_records = detail::draft_pages<page_size>;

  struct sequence {
    std::size_t known = 0;  // positions of its tokens that the cache has
    typename page_records::reader reader;
    std::vector<token_id> draft;  // all but its last token are in the cache too, behind those
    std::vector<candidate> candidates;
    std::vector<std::size_t> ends;  // in candidates, of each token of the draft

    void forget() {
      draft.clear();
      candidates.clear();
      ends.clear();
    }
  };

  // The first forward: what is not known of the sequences' tokens.
  void plan(std::span<draft_request const> requests) {
    parts_.clear();
    drafting_.clear();
    for (auto const& r : requests) {
      auto& s = sequences_[r.slot];
      // What was taken of the last draft; not of the last token, which the target reads now.
      for (std::size_t i = 0; i + 1 < s.draft.size() && s.known + 1 < r.tokens.size() &&
                              s.draft[i] == r.tokens[s.known];
           ++i) {
        ++s.known;
      }
      s.forget();
      bool const wanted = std::min({r.most, how_.most, r.tokens.size()}) > 0;
      // A draft begins with the logits of the last token, known or not.
      s.known = std::min(s.known, r.tokens.size() - (wanted ? 1 : 0));
      s.known = pages_.held(s.reader, r.tokens, r.pages, s.known);
      auto const lacking = r.tokens.subspan(s.known);
      auto const part = lacking.first(std::min(lacking.size(), how_.chunk));
      if (part.empty()) { continue; }
      bool const drafts = wanted && part.size() == lacking.size();
      auto const ahead = drafts ? std::min(r.most, how_.most) - 1 : 0;
      pages_.write(s.reader, r.pages, s.known, s.known + part.size() + ahead);
      parts_.push_back({part, s.known, r.pages, drafts ? 1u : 0u, r.slot});
      if (drafts) { drafting_.push_back(&r); }
    }
  }

  // A token for each row, and the forward of those that shall have another.
  void choose(std::span<float const> logits) {
    auto const vocab = model_.vocab_size();
    parts_.clear();
    std::size_t row = 0;
    std::erase_if(drafting_, [&](draft_request const* r) {
      auto& s = sequences_[r->slot];
      auto const at = r->tokens.size() + s.draft.size();
      token_id const token =
        choice_(logits.subspan(row++ * vocab, vocab), r->seed, at, s.candidates);
      if (token < 0) { return true; }
      s.draft.push_back(token);
      s.ends.push_back(s.candidates.size());
      if (s.draft.size() == std::min(r->most, how_.most)) { return true; }
      parts_.push_back({std::span{s.draft}.last(1), at, r->pages, 1, r->slot});
      return false;
    });
  }

  Model& model_;
  [[no_unique_address]] Choice choice_;
  model_draft_options how_;
  page_records pages_;
  std::vector<sequence> sequences_;             // by slot
  std::vector<step_part> parts_;                // of the next forward
  std::vector<draft_request const*> drafting_;  // whose rows it gives
};

}  // namespace tpx
