// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "file_error.hpp"

#include <cstddef>

namespace llama {

std::string_view name(file_fault fault) noexcept {
  switch (fault) {
    case file_fault::missing_file:
      return "missing file";
    case file_fault::unreadable:
      return "unreadable";
    case file_fault::too_large:
      return "too large";
    case file_fault::not_utf8:
      return "not UTF-8";
    case file_fault::not_json:
      return "not JSON";
    case file_fault::too_deep:
      return "too deep";
    case file_fault::duplicate_key:
      return "duplicate key";
    case file_fault::not_an_object:
      return "not an object";
    case file_fault::missing_key:
      return "missing key";
    case file_fault::wrong_type:
      return "wrong type";
    case file_fault::out_of_range:
      return "out of range";
    case file_fault::inconsistent:
      return "inconsistent";
    case file_fault::not_supported:
      return "not supported";
    case file_fault::truncated:
      return "truncated";
    case file_fault::header_too_large:
      return "header too large";
    case file_fault::header_past_end:
      return "header past the end";
    case file_fault::unknown_dtype:
      return "unknown dtype";
    case file_fault::bad_rank:
      return "bad rank";
    case file_fault::bad_dimension:
      return "bad dimension";
    case file_fault::size_overflow:
      return "size overflow";
    case file_fault::size_mismatch:
      return "size mismatch";
    case file_fault::bad_range:
      return "bad range";
    case file_fault::reversed_range:
      return "reversed range";
    case file_fault::range_past_end:
      return "range past the end";
    case file_fault::overlap:
      return "overlap";
    case file_fault::hole:
      return "hole";
    case file_fault::uncovered_bytes:
      return "uncovered bytes";
    case file_fault::misaligned:
      return "misaligned";
    case file_fault::path_in_index:
      return "path in the index";
    case file_fault::missing_shard:
      return "missing shard";
    case file_fault::tensor_not_in_shard:
      return "tensor not in its shard";
    case file_fault::missing_tensor:
      return "missing tensor";
    case file_fault::wrong_dtype:
      return "wrong dtype";
    case file_fault::wrong_shape:
      return "wrong shape";
    case file_fault::bad_id:
      return "bad id";
    case file_fault::duplicate_id:
      return "duplicate id";
    case file_fault::id_hole:
      return "id hole";
    case file_fault::missing_byte:
      return "missing byte";
    case file_fault::bad_merge:
      return "bad merge";
    case file_fault::bad_pattern:
      return "bad pattern";
  }
  return "?";
}

file_error::file_error(file_fault fault, std::string const& file, std::string_view message,
                       std::string_view remedy, cuda::std::source_location where)
    : error{tpx::errc::bad_file,
            file + ": " + std::string{name(fault)} + ": " + std::string{message},
            {.remedy = std::string{remedy}},
            where},
      fault_{fault} {}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest = 80;
  constexpr std::string_view digits = "0123456789abcdef";
  std::string shown = "'";
  for (char const c : text.substr(0, longest)) {
    auto const byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      shown += "\\x";
      shown += digits[byte >> 4];
      shown += digits[byte & 15];
    } else {
      shown += c;
    }
  }
  return shown + (text.size() > longest ? "...'" : "'");
}

}  // namespace llama
