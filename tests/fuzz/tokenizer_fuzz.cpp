// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The first byte chooses: a whole tokenizer.json with a fixed text; or parts, one a line, that are
// put into a small good tokenizer: pattern, more vocabulary, merges, added tokens, normalizer; what
// follows is the text.
#include "fuzz.hpp"
#include "llama/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace {

using fuzz::must;

/// `"Ġ":220,` and its 255 fellows; written without the table of the code under test.
std::string const& byte_tokens() {
  static std::string const all = [] {
    std::string text;
    int other = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      bool const printable = (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte != 173);
      int const code = printable ? byte : other++;
      std::array<char, 32> escaped{};
      std::snprintf(escaped.data(), escaped.size(), "\"\\u%04x\":%d,", static_cast<unsigned>(code),
                    byte);
      text += escaped.data();
    }
    text.pop_back();
    return text;
  }();
  return all;
}

struct parts {
  std::string pattern, vocab, merges, added, normalizer;

  [[nodiscard]] std::string json() const {
    return R"({"added_tokens":[)" + added + R"(],"normalizer":)" + normalizer +
           R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":")" +
           pattern +
           R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,)"
           R"("use_regex":false}]},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" +
           byte_tokens() + vocab + R"(},"merges":[)" + merges + "]}}";
  }
  [[nodiscard]] std::string lines(std::string const& text) const {
    return "1" + pattern + '\n' + vocab + '\n' + merges + '\n' + added + '\n' + normalizer + '\n' +
           text;
  }
};

void check(llama::tokenizer const& tokenizer, std::string_view text) {
  auto const ids = tokenizer.encode(text);
  must(tokenizer.decode(ids) == text, "decode gives back what encode took");
  must(tokenizer.encode(text) == ids, "encoding again gives the same");
  must(ids.size() <= text.size(), "no token is empty");
  std::string streamed;
  llama::stream_decoder decoder{tokenizer, llama::special::Show};
  for (auto const id : ids) { streamed += decoder.push(id); }
  auto const held = decoder.finish();
  must(held.size() <= 3, "at most 3 bytes are held back");
  must(streamed + held == text, "a stream gives what decode gives");
}

std::string take_line(std::string_view& input) {
  auto const end = std::min(input.find('\n'), input.size());
  std::string const line{input.substr(0, end)};
  input.remove_prefix(std::min(end + 1, input.size()));
  return line;
}

parts example() {
  return {
    R"((?i:'s|'t|'re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)",
    R"(,"th":256,"the":257,"\u0120the":258,"aa":259,"aaaa":260)",
    R"("t h",["th","e"],["\u0120","the"],"a a",["aa","aa"])",
    R"({"id":261,"content":"<|end|>","special":true,"normalized":false},{"id":262,"content":"<|e","normalized":true})",
    "null"};
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  std::string const text = " the theatre's 12345\r\n aaaaaaa <|end|><|e é\xff\xf0\x9f\x98\x80  x";
  auto nfc = example();
  nfc.normalizer = R"({"type":"NFC"})";
  auto gpt2 = example();
  gpt2.pattern = R"('s| ?\\p{L}+| ?[^\\s\\p{L}]+|\\s+(?!\\S)|\\s+)";
  auto empty = example();
  empty.pattern = "x*";
  return {example().lines(text), nfc.lines(text), gpt2.lines(text), empty.lines("xxaxx"),
          "0" + example().json()};
}

std::vector<std::string> fuzz::words() {
  return {"\"content\":",
          "\"id\":",
          "\"special\":true",
          "\"normalized\":true",
          "\\\\p{L}",
          "\\\\s+",
          "(?!",
          "(?<=",
          "(?R)",
          "(?:a+)+$",
          "\\\\K",
          "\\\\C",
          "{1,65535}",
          "(?i:",
          "[^",
          "\\\\b",
          "\\\\X",
          "|",
          "*",
          "\n",
          "\"a b\"",
          "[\"aa\",\"aa\"]",
          ",\"aaa\":263",
          "<|end|>",
          "the",
          "aaaa",
          "  ",
          "\xcc\x81",
          "e\xcc\x81",
          "\xf0\x9f",
          "\xc2\x85",
          "null",
          "{",
          "[[[[[[[[",
          "(*LIMIT_MATCH=1)",
          "(?C1)",
          "\\\\Q",
          "(((((((((("};
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size == 0) { return 0; }
  std::string_view input{reinterpret_cast<char const*>(data) + 1, size - 1};
  try {
    if (data[0] % 2 == 0) {
      check(llama::tokenizer::from_json(input), " the cat's 12 \xf0\x9f\x98\x80\xff  <|end|>");
    } else {
      parts p;
      for (auto* const part : {&p.pattern, &p.vocab, &p.merges, &p.added, &p.normalizer}) {
        *part = take_line(input);
      }
      check(llama::tokenizer::from_json(p.json()), input);
    }
  } catch (tpx::error const&) {}
  return 0;
}
