// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Patterns and a text: see text_cases.hpp. In the text | ends a token and < takes one back, if it
// can be. The length of the input chooses the patience.
#include "text_cases.hpp"

#include <tpx/generator/text_stream.hpp>

#include <algorithm>
#include <memory>

namespace {

using fuzz::must;

bool stopped(tpx::text_event const& event) {
  return event.end == tpx::text_end::stop_string;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view input{reinterpret_cast<char const*>(data), size};
  auto const patterns = fuzz::take_patterns(input);
  bool const one_scope = std::none_of(patterns.begin(), patterns.end(), [](auto const& p) {
    return p.action == tpx::text_action::Enter;
  });
  tpx::text_stream stream{std::make_shared<tpx::text_rules const>(
    tpx::text_rules{.patterns = tpx::matcher{patterns, fuzz::scopes}, .patience = size % 20})};

  std::vector<std::string> tokens;
  std::string text, piece;
  std::size_t sent = 0;
  auto const text_of = [&](std::size_t count) {
    std::string all;
    for (std::size_t i = 0; i < count; ++i) { all += tokens[i]; }
    return all;
  };
  auto const take = [&](tpx::text_event const& event) {
    text += event.text;
    sent += event.tokens;
    must(sent + event.held == tokens.size(), "every token is sent or held");
    must(event.held == stream.held() && stream.size() == tokens.size(), "counts are told");
    must(event.cut_tokens <= event.tokens, "what is cut was told");
    auto const whole = text_of(sent);
    must(whole.starts_with(text), "text is that of the tokens");
    if (event.end == tpx::text_end::none) {
      must(whole.size() - text.size() <= 3, "text lags 3 bytes at most");
    }
  };
  auto const rewind = [&](std::size_t count) {
    stream.rewind(count);
    tokens.resize(tokens.size() - count);
  };

  for (char const c : input.substr(0, 400)) {
    if (c == '<') {
      if (stream.held() > 0) { rewind(1); }
    } else if (c != '|') {
      piece += c;
    } else {
      tokens.push_back(piece);
      auto const event = stream.push(static_cast<tpx::token_id>(tokens.size()), piece);
      piece.clear();
      take(event);
      if (stopped(event)) {
        must(patterns[event.which].action == tpx::text_action::Stop, "a stop stops");
        must(text_of(sent).size() - text.size() >= event.cut_bytes, "the cut is at the end");
        return 0;
      }
      if (event.rewind > 0) {
        must(patterns[event.which].action == tpx::text_action::Ban, "a ban rewinds");
        must(event.rewind <= event.held, "what is taken back is held");
        rewind(event.rewind);
        must(!stream.forbidden().empty(), "something is forbidden then");
      }
    }
  }
  take(stream.finish());
  must(text == text_of(tokens.size()), "in the end all is sent");
  if (one_scope) {
    naive::scoped now;
    for (char const c : text) { must(!naive::add(now, c, patterns), "no pattern is in the text"); }
  }
  return 0;
}
