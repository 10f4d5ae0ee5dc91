// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "pre_tokenizer.hpp"

#include "file_error.hpp"
#include "utf8.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <cstdint>
#include <new>
#include <pcre2.h>

namespace llama {
namespace {

constexpr std::size_t longest_pattern = 16 << 10;
constexpr std::uint32_t most_steps = 10'000'000;
constexpr std::uint32_t most_kilobytes = 256 << 10;

struct pcre2_free {
  void operator()(pcre2_code* p) const noexcept { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const noexcept { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const noexcept { pcre2_match_context_free(p); }
};

template <class T>
using owned = std::unique_ptr<T, pcre2_free>;

template <class T>
owned<T> own(T* made) {
  if (made == nullptr) { throw std::bad_alloc{}; }
  return owned<T>{made};
}

/// PCRE2's \s also takes U+180E, which lost White_Space in Unicode 6.3.
std::string with_unicode_spaces(std::string_view pattern) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      out += pattern[i];
      continue;
    }
    char const letter = pattern[++i];
    if (letter == 's') {
      out += R"(\p{White_Space})";
    } else if (letter == 'S') {
      out += R"(\P{White_Space})";
    } else {
      out += '\\';
      out += letter;
    }
  }
  return out;
}

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<char const*>(text);
}

}  // namespace

struct word_pattern::program {
  owned<pcre2_code> code;
  owned<pcre2_match_context> limits;
  std::string file;
};

word_pattern::word_pattern(std::string_view pattern, std::string const& file) {
  if (pattern.size() > longest_pattern) {
    throw file_error{file_fault::bad_pattern, file,
                     "a pattern of " + std::to_string(pattern.size()) + " bytes; at most " +
                       std::to_string(longest_pattern) + " are read"};
  }
  auto const source = with_unicode_spaces(pattern);
  int why = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* const code = pcre2_compile(
    reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY, &why, &where, nullptr);
  if (code == nullptr) {
    throw file_error{file_fault::bad_pattern, file,
                     "the pattern " + in_quotes(source) + " is wrong at byte " +
                       std::to_string(where) + ": " + pcre2_message(why)};
  }
  auto compiled = own(code);
  auto limits = own(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(limits.get(), most_steps);
  pcre2_set_heap_limit(limits.get(), most_kilobytes);
  program_ = std::make_shared<program const>(program{std::move(compiled), std::move(limits), file});
}

void word_pattern::split(std::string_view text, std::vector<std::string_view>& words) const {
  while (!text.empty()) {
    auto const valid = valid_prefix(text);
    if (valid == 0) {
      words.push_back(text.substr(0, 1));
      text.remove_prefix(1);
    } else {
      split_valid(text.substr(0, valid), words);
      text.remove_prefix(valid);
    }
  }
}

void word_pattern::split_valid(std::string_view text, std::vector<std::string_view>& words) const {
  auto const data = own(pcre2_match_data_create_from_pattern(program_->code.get(), nullptr));
  auto const cut = [&](std::size_t begin, std::size_t end) {
    if (begin != end) { words.push_back(text.substr(begin, end - begin)); }
  };
  std::size_t done = 0;  // words up to here are cut
  std::size_t from = 0;  // where the next search begins
  while (from < text.size()) {
    // The text is known to be UTF-8; PCRE2 would check all of it again at each call.
    int const found =
      pcre2_match(program_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                  from, PCRE2_NO_UTF_CHECK, data.get(), program_->limits.get());
    if (found == PCRE2_ERROR_NOMATCH) { break; }
    PCRE2_SIZE const* const range = pcre2_get_ovector_pointer(data.get());
    if (found < 0 || range[0] < done || range[1] < range[0]) {
      throw file_error{file_fault::bad_pattern, program_->file,
                       found < 0 ? "matching failed: " + pcre2_message(found)
                                 : "a match begins inside the one before it",
                       "cut the text into shorter ones, or mend the pattern"};
    }
    cut(done, range[0]);
    cut(range[0], range[1]);
    done = range[1];
    from = done;
    // An empty match parts the words around it; the search must still go on.
    if (range[0] == range[1] && from < text.size()) {
      from += first_character(text.substr(from)).bytes;
    }
  }
  cut(done, text.size());
}

}  // namespace llama
