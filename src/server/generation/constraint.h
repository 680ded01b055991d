// What the output's form must be: read from response_format, structured_outputs or guided_*, kept as data. The grammar
// that enforces it is compiled by constraint_mask().
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "server/generation/fields.h"
#include "server/loaded_model.h"

namespace bittern::server {

struct OutputConstraint {
  enum class Kind { none, json_object, json_schema, regex, choice, grammar };
  Kind kind = Kind::none;
  OrderedJson schema;   // json_schema: the schema; choice: the list of texts
  std::string pattern;  // regex: the expression; grammar: Lark
  std::string param;    // the field it came from
  explicit operator bool() const { return kind != Kind::none; }
};

/// response_format {"type": "text" | "json_object" | "json_schema" | "regex_schema"}, structured_outputs {"json",
/// "json_object", "regex", "choice", "grammar"} and guided_json, guided_regex, guided_choice, guided_grammar. More than
/// one constraint is an ApiError, and so is what cannot be honoured.
OutputConstraint read_constraint(Fields& fields);

/// A mask for one request; null without a constraint. ApiError(invalid_argument) with the constraint's field when the
/// grammar cannot be compiled; it names the schema's keyword that is not supported.
std::shared_ptr<TokenMask> constraint_mask(LoadedModel& model, const OutputConstraint& constraint);

}  // namespace bittern::server
