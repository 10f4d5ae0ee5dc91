// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/grammar_filter.hpp>
#include <tpx/generator/regex_syntax.hpp>

#include <memory>
#include <string_view>
#include <utility>

namespace tpx {

/// A filter that makes the whole text match a regular expression, in the dialect of ECMA-262
/// (detail::regex_syntax). Throws invalid_argument with the byte of what is wrong, or where no text
/// or no automaton of options.max_states matches.
class regex_filter : public grammar_filter {
 public:
  regex_filter(std::shared_ptr<token_trie const> tokens, std::string_view expression,
               grammar_options const& options = {})
      : grammar_filter{std::make_shared<token_grammar>(
                         std::move(tokens), compiled(expression, options), options.max_bytes),
                       options} {}

 private:
  static detail::grammar_nfa compiled(std::string_view expression, grammar_options const& options) {
    using syntax = detail::regex_syntax;
    detail::grammar_nfa nfa{options.max_states};
    syntax{expression, syntax::matches::whole, "regular expression"}.compile(
      nfa, detail::spelling::utf8, detail::grammar_nfa::start, detail::grammar_nfa::accept);
    nfa.finish();
    return nfa;
  }
};

}  // namespace tpx
