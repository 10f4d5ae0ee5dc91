// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>

#include <string>
#include <string_view>

namespace llama {

/// Which rule a file breaks. `name(file_fault)` gives its word.
enum class file_fault {
  // Any file
  missing_file,  ///< there is no such file
  unreadable,    ///< it exists, and cannot be opened or mapped
  too_large,     ///< more bytes or values than a file of its kind has
  // Any JSON
  not_utf8,
  not_json,
  too_deep,       ///< nested deeper than a file of its kind is
  duplicate_key,  ///< an object names one key twice
  not_an_object,  ///< the whole is not a JSON object
  missing_key,
  wrong_type,     ///< a value of another JSON type than its key asks for
  out_of_range,   ///< a number no model has
  inconsistent,   ///< two values contradict each other
  not_supported,  ///< well formed, but asks for what these readers do not do
  // safetensors
  truncated,         ///< the file ends before its header says so
  header_too_large,  ///< over 100 MB
  header_past_end,   ///< the header is longer than the file
  unknown_dtype,
  bad_rank,             ///< more than 8 dimensions
  bad_dimension,        ///< negative, fractional or over 2^63 - 1
  size_overflow,        ///< shape times dtype does not fit 64 bits
  size_mismatch,        ///< the byte range is not shape times dtype
  bad_range,            ///< data_offsets are not two whole numbers
  reversed_range,       ///< begin > end
  range_past_end,       ///< one tensor lies beyond the file
  overlap,              ///< two tensors share bytes
  hole,                 ///< bytes between two tensors belong to none
  uncovered_bytes,      ///< bytes after the last tensor belong to none
  misaligned,           ///< elements do not lie at a multiple of their size
  path_in_index,        ///< the index names something other than a plain file name
  missing_shard,        ///< the index names a file that is not there
  tensor_not_in_shard,  ///< the index says that a file holds a tensor, and it does not
  // What a model asks of its tensors
  missing_tensor,
  wrong_dtype,
  wrong_shape,
  // Tokenizer
  bad_id,        ///< negative or over 2^24
  duplicate_id,  ///< two tokens with one id
  id_hole,       ///< an id below the largest has no token
  missing_byte,  ///< one of the 256 byte tokens is not there
  bad_merge,     ///< not two tokens whose join is a token, or given twice
  bad_pattern,   ///< the regular expression does not compile
};

[[nodiscard]] std::string_view name(file_fault fault) noexcept;

/// What the readers of model files throw: which rule, in which file, at which tensor or key.
/// The code is errc::bad_file.
class file_error : public tpx::error {
 public:
  file_error(file_fault fault, std::string const& file, std::string_view message,
             std::string_view remedy = "",
             cuda::std::source_location where = cuda::std::source_location::current());

  [[nodiscard]] file_fault fault() const noexcept { return fault_; }

 private:
  file_fault fault_;
};

/// `text` in quotes, fit for a message: control characters shown as \xNN, cut after 80 bytes.
[[nodiscard]] std::string in_quotes(std::string_view text);

}  // namespace llama
