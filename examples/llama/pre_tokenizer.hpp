// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// A regular expression that cuts text into words: each match is a word, and so is what lies
/// between two matches (Hugging Face's Split with behavior "Isolated").
class word_pattern {
 public:
  /// What ByteLevel with use_regex means. Source: GPT-2's encoder.py.
  static constexpr std::string_view gpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

  /// `\s` and `\S` mean Unicode's White_Space, as they do to Hugging Face's engine (Oniguruma).
  /// Errors  file_error bad_pattern, naming `file`.
  word_pattern(std::string_view pattern, std::string const& file);

  /// Appends the words of `text` to `words`; together they are `text`. Bytes that are not UTF-8 are
  /// words of their own, which no match crosses or sees past.
  /// Errors  file_error bad_pattern where matching takes too many steps.
  void split(std::string_view text, std::vector<std::string_view>& words) const;

 private:
  struct program;
  void split_valid(std::string_view text, std::vector<std::string_view>& words) const;

  std::shared_ptr<program const> program_;
};

}  // namespace llama
