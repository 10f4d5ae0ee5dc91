// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/token.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tpx {

/// An index into a model's paged cache.
using page_id = std::uint32_t;

/// One sequence's share of a step: new tokens, and how many of their last ones need logits. A chunk
/// of a prompt, a decode step and the verification of a draft differ in these numbers alone.
struct step_part {
  std::span<token_id const> tokens;  // at positions start, start + 1, ...
  std::size_t start;                 // tokens of the sequence that are in the cache already
  std::span<page_id const> pages;    // block table: position p lies in pages[p / page_size]
  std::size_t rows;                  // logits wanted, of the last `rows` tokens; 0 for most chunks
  std::uint32_t slot;                // of the sequence's recurrent state; 0, 1, ... < max_batch
};

/// The first `tokens` positions of page `from` become those of page `to`, in every cache of the
/// model (a draft model's too). In a list, copies happen one after the other.
struct page_copy {
  page_id from;
  page_id to;
  std::size_t tokens;
};

/// What a generator asks of a model. It may be cut over any number of ranks behind this; the
/// generator knows no ranks and no GPU.
///
///   M::page_size       positions a page has
///   m.vocab_size()     tokens there are, and columns of the logits
///   m.pages()          pages of its cache
///   m.forward(parts)   runs one step; the logits of the wanted rows, part after part, as
///                      (sum of rows, vocab_size()), which stay the model's and may be written to
///                      until the next call
///   m.copy(copies)     page copies, before the next forward reads or writes those pages: all of
///                      them or, if it throws, none
///   m.columns()        of the logits, where these are a part of the vocabulary; then the sampler
///   is
///                      one that joins the parts of all ranks; optional
///   m.max_tokens()     of one sequence, where that is bounded by more than the pages; optional
///
/// A token's logits must not depend on what else is in the step. What a member throws ends the jobs
/// of that step and no other.
template <class M>
concept generator_model = requires(M& m, std::span<step_part const> parts,
                                   std::span<page_copy const> copies) {
  { M::page_size } -> std::convertible_to<std::size_t>;
  { m.vocab_size() } -> std::convertible_to<std::size_t>;
  { m.pages() } -> std::convertible_to<std::size_t>;
  { m.forward(parts) } -> std::convertible_to<std::span<float>>;
  m.copy(copies);
};

/// A model whose layers keep a state a sequence (Mamba, gated delta nets, sliding windows), which
/// has no positions and so cannot be cut off at one: it is saved and loaded whole.
///
///   m.state_bytes()            of one sequence's state
///   m.save_state(slot, bytes)  the state of the sequence in `slot`, as of its last forward
///   m.load_state(slot, bytes)  the reverse; empty bytes: the state before the first token
template <class M>
concept recurrent_model = generator_model<M> &&
  requires(M& m, std::uint32_t slot, std::span<std::byte> to, std::span<std::byte const> from) {
  { m.state_bytes() } -> std::convertible_to<std::size_t>;
  m.save_state(slot, to);
  m.load_state(slot, from);
};

/// A model that can keep pages in host memory too, for the page table's host tier.
///
///   m.host_pages()                  how many
///   m.store(page, host, tokens)     copies a page to host page `host`
///   m.fetch(host, page, tokens)     and back
template <class M>
concept tiered_model = generator_model<M> &&
  requires(M& m, page_id page, std::uint32_t host, std::size_t tokens) {
  { m.host_pages() } -> std::convertible_to<std::size_t>;
  m.store(page, host, tokens);
  m.fetch(host, page, tokens);
};

/// How many host pages a model has; 0 if it has none to have.
template <generator_model M>
[[nodiscard]] std::size_t host_pages_of(M const& m) {
  if constexpr (tiered_model<M>) { return m.host_pages(); }
  return 0;
}

}  // namespace tpx
