// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "file_error.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// Whether special tokens (end of text, chat roles) show in decoded text.
enum class special : bool { Skip, Show };

/// The byte-level BPE of a tokenizer.json: GPT-2, Llama 3, Qwen2 and their kin.
///
/// What it promises: decode(encode(text)) == text for any bytes, UTF-8 or not; the ids are those of
/// Hugging Face's tokenizers with add_special_tokens=False. Copies are cheap and share one table;
/// all members may be called by several threads at once.
///
/// Read: vocab, merges as "a b" or ["a", "b"], ignore_merges, added tokens, pre-tokenizers
/// ByteLevel and Sequence[Split(Regex), ..., ByteLevel], normalizer null or NFC, the ids that the
/// post-processor puts in front. Truncation and padding are the caller's affair and are let be.
/// Refused (not_supported): dropout, byte fallback, sub-word prefixes and suffixes, added spaces,
/// added tokens that swallow spaces or ask for word borders, other normalizers and pre-tokenizers.
class tokenizer {
 public:
  /// Reads the text of a tokenizer.json; `file` names it in errors.
  /// Errors  file_error, also bad_id, duplicate_id, id_hole, missing_byte, bad_merge, bad_pattern.
  [[nodiscard]] static tokenizer from_json(std::string_view text,
                                           std::string const& file = "<memory>");

  /// The same of `folder`/tokenizer.json.
  [[nodiscard]] static tokenizer open(std::string const& folder);

  /// The ids of `text`; added tokens in it become their own ids. The time grows as
  /// n log n with the longest word; words seen before come from a cache of bounded size.
  /// Errors  invalid_argument where the file asks for NFC and `text` may not be in it (combining
  ///         marks apart from their letters): put it into NFC first. Text is never changed here.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const;

  /// The bytes of `ids`, joined; they need not be UTF-8 when the ids are part of a text.
  /// Errors  invalid_argument for an id outside [0, size()).
  [[nodiscard]] std::string decode(std::span<std::int32_t const> ids,
                                   special shown = special::Show) const;

  /// The bytes of one token. Same errors.
  [[nodiscard]] std::string_view bytes(std::int32_t id) const;
  [[nodiscard]] bool is_special(std::int32_t id) const;

  /// The same, but empty for a special token: a tokenizer is a tpx::vocabulary.
  [[nodiscard]] std::string_view piece(std::int32_t id) const;

  /// The id of an added token or of a token whose bytes are `bytes`.
  [[nodiscard]] std::optional<std::int32_t> find(std::string_view bytes) const;

  /// What Hugging Face's encode puts before a text by default, such as <|begin_of_text|>; may be
  /// empty.
  [[nodiscard]] std::span<std::int32_t const> prefix() const noexcept;

  /// Ids are 0 to size() - 1. A model's vocab_size may be larger, never smaller.
  [[nodiscard]] std::size_t size() const noexcept;

 private:
  struct tables;
  explicit tokenizer(std::shared_ptr<tables const> made) : tables_{std::move(made)} {}

  std::shared_ptr<tables const> tables_;
};

/// Decodes a stream of ids so that each piece ends between characters.
///
/// The pieces and finish() joined are decode() of all ids: at most 3 bytes are held back, those
/// that may still become a character. Bytes that can not are handed on as they are.
class stream_decoder {
 public:
  explicit stream_decoder(tokenizer source, special shown = special::Skip)
      : source_{std::move(source)}, shown_{shown} {}

  /// The text that `id` completes; may be empty.
  [[nodiscard]] std::string push(std::int32_t id);
  /// What was held back; the next push() begins a new text.
  [[nodiscard]] std::string finish();

 private:
  tokenizer source_;
  special shown_;
  std::string held_;
};

}  // namespace llama
