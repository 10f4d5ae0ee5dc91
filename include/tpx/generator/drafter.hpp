// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/model.hpp>
#include <tpx/generator/rejection.hpp>
#include <tpx/generator/token.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tpx {

/// A sequence that a draft is wanted for.
struct draft_request {
  std::uint32_t slot;                // of the sequence, as in step_part
  std::size_t most;                  // tokens to draft at most; 0: only take note of its tokens
  std::span<token_id const> tokens;  // of the sequence, as many as its pages have after this step
  std::span<page_id const> pages;    // its block table, for tokens.size() + most positions
  std::uint64_t seed;                // of its random numbers; their step is the token's index
};

/// What guesses tokens ahead, for all sequences of a batch at once.
///
///   d.open(slot, cached)      before all else: a new sequence in `slot`, whose first `cached`
///   tokens
///                             the target has in its pages; others may have been there before
///   d.propose(requests)       makes a draft for each, of different slots
///   d.tokens(slot)            that draft, until the next propose(); may be shorter than was wanted
///   d.drawn_from(slot, i)     the distribution that its token i was drawn from; empty if there was
///                             no chance in it
///   d.rewind(slot, length)    the sequence's tokens from `length` on were taken back
///   d.copy(copies)            as a model's
///   d.store(page, host, tokens), d.fetch(host, page, tokens)  as a tiered model's; optional
///
/// Which of a draft's tokens were accepted, a drafter sees from the tokens of the next request. A
/// bad draft costs time and never changes a token: what a drafter throws need not end a job.
template <class D>
concept drafter = requires(D& d, std::uint32_t slot, std::size_t n,
                           std::span<draft_request const> requests,
                           std::span<page_copy const> copies) {
  d.open(slot, n);
  d.propose(requests);
  { d.tokens(slot) } -> std::convertible_to<std::span<token_id const>>;
  { d.drawn_from(slot, n) } -> std::convertible_to<token_distribution>;
  d.rewind(slot, n);
  d.copy(copies);
};

namespace detail {

inline void expect_slot(std::uint32_t slot, std::size_t slots) {
  expects(
    slot < slots, [&] { return "slot " + std::to_string(slot) + " of " + std::to_string(slots); },
    "make the drafter with as many slots as a batch has sequences");
}

}  // namespace detail
}  // namespace tpx
