// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "checkpoint.hpp"
#include "tokenizer.hpp"

#include <tpx/group.hpp>
#include <tpx/split_plan.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// A model's words as a tpx::vocabulary: one for each logit, of which the last may stand for
/// nothing.
struct vocabulary {
  tokenizer words;
  std::size_t logits;

  [[nodiscard]] std::size_t size() const { return logits; }
  [[nodiscard]] std::string_view piece(std::int32_t token) const {
    return static_cast<std::size_t>(token) < words.size() ? words.piece(token) : "";
  }
};

/// A model's folder, for programs.
struct opened {
  checkpoint files;
  vocabulary words;

  /// Errors: file_error; invalid_argument where the tokenizer is another model's.
  [[nodiscard]] static opened open(std::string const& folder);

  /// The tokens of `text` with those that begin every text, if `new_tokens` more fit the model.
  /// Errors: invalid_argument.
  [[nodiscard]] std::vector<std::int32_t> prompt(std::string_view text,
                                                 std::size_t new_tokens) const;

  /// A plan for ranks that share this machine's memory and keep `tokens` tokens; rank 0 looks how
  /// much there is, and all follow. It is printed on rank 0. Errors: it does not fit.
  [[nodiscard]] tpx::split_plan plan(tpx::group& g, std::size_t tokens, bool print) const;
};

/// Writes to standard output, now.
void show(std::string_view text);

}  // namespace llama
