// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/grammar_filter.hpp>
#include <tpx/generator/json_schema.hpp>
#include <tpx/generator/json_text.hpp>

#include <memory>
#include <string_view>
#include <utility>

namespace tpx {

/// A filter that makes the whole text a JSON value that fits a schema.
///
/// Known are type, enum, const, anyOf, oneOf (taken as anyOf), $ref within the schema, $defs,
/// properties, required, additionalProperties, items, minItems, maxItems, minLength, maxLength and
/// pattern. Annotations (title, description, default, examples, $schema, $id, $comment, ...) say
/// nothing. Any other keyword, and a combination that is not supported, is an error that names its
/// JSON pointer: nothing is left out in silence.
///
/// Members come in the order of `properties`, then others. Names and the values of enum and const
/// are written in one way; other strings may use JSON's escapes. An integer has no fraction and no
/// exponent. No whitespace stands before or after the value.
///
/// Throws invalid_argument for a text that is no schema, with the place; for a schema that no value
/// fits; and for one that needs more than options.max_states.
class json_schema_filter : public grammar_filter {
 public:
  json_schema_filter(std::shared_ptr<token_trie const> tokens, std::string_view schema,
                     grammar_options const& options = {})
      : grammar_filter{std::make_shared<token_grammar>(std::move(tokens), compiled(schema, options),
                                                       options.max_bytes),
                       options} {}

 private:
  static detail::grammar_nfa compiled(std::string_view schema, grammar_options const& options) {
    auto const root = detail::json_reader{schema, "JSON schema"}.read();
    detail::grammar_nfa nfa{options.max_states};
    detail::json_schema::compile(root, nfa, options.max_space);
    nfa.finish();
    return nfa;
  }
};

}  // namespace tpx
