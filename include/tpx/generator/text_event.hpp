// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tpx {

/// Why a text ended.
enum class text_end : std::uint8_t {
  none,         ///< it has not
  finished,     ///< finish() was called
  stop_token,   ///< a stop token came
  stop_string,  ///< a Stop pattern was found
};

/// What is new after a token. Tokens are told by their number, oldest first, so that a caller keeps
/// their ids and log-probabilities in step.
struct text_event {
  std::string_view text = {};  // to be sent; valid until the stream's next call
  std::size_t tokens = 0;      // that leave the stream: those of `text`, and at the end all
  std::size_t held = 0;        // that remain in it
  std::size_t cut_tokens = 0;  // the last of `tokens`, which hold the stop string, or are it
  std::size_t cut_bytes = 0;   // at the end of those, that are not in the text
  std::size_t rewind = 0;      // a banned string came: so many tokens are to be taken back
  std::size_t which = 0;       // index of the pattern found, or of the stop token
  text_end end = text_end::none;
};

}  // namespace tpx
