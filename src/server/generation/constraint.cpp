// Reading constraints from the three families of fields that clients use for them.
#include "server/generation/constraint.h"

#include <fmt/core.h>

namespace bittern::server {
namespace {

using Kind = OutputConstraint::Kind;

void set(OutputConstraint& into, OutputConstraint one) {
  if (into) refuse_field(one.param, fmt::format("{} and {} exclude each other: give one", into.param, one.param));
  into = std::move(one);
}

/// A schema may be an object, true, or, as older clients send it, a text that holds one.
OrderedJson schema_of(const OrderedJson& value, const std::string& param) {
  if (value.is_object() || value.is_boolean()) return value;
  if (value.is_string()) {
    try {
      parse_json(value.get_ref<const std::string&>(), param);
    } catch (const Error& error) {
      refuse_field(param, error.message());
    }
    return schema_of(OrderedJson::parse(value.get_ref<const std::string&>()), param);
  }
  refuse_field(param, fmt::format("{} must be a JSON schema, but it is {}", param, describe_json(Json(value))));
}

OrderedJson choices_of(const OrderedJson& value, const std::string& param) {
  if (!value.is_array() || value.empty()) refuse_field(param, fmt::format("{} must be a list of texts", param));
  for (const OrderedJson& choice : value) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      refuse_field(param, fmt::format("{} holds {}, which is not a text", param, describe_json(Json(choice))));
    }
  }
  return value;
}

void read_json(Fields& fields, std::string_view key, OutputConstraint& into) {
  if (const OrderedJson* value = fields.find(key)) {
    const std::string param = fields.param(key);
    set(into, {Kind::json_schema, schema_of(*value, param), "", param});
  }
}

void read_text(Fields& fields, std::string_view key, Kind kind, OutputConstraint& into) {
  if (auto text = fields.get<std::string>(key)) set(into, {kind, {}, std::move(*text), fields.param(key)});
}

void read_choice(Fields& fields, std::string_view key, OutputConstraint& into) {
  if (const OrderedJson* value = fields.find(key)) {
    const std::string param = fields.param(key);
    set(into, {Kind::choice, choices_of(*value, param), "", param});
  }
}

/// {"name", "description", "strict", "schema"}: without a schema any object will do, as the API says.
void read_named_schema(Fields& format, OutputConstraint& into) {
  const OrderedJson* named = format.find("json_schema");
  if (named == nullptr) refuse_field(format.param("json_schema"), format.param("json_schema") + " is missing");
  Fields fields(*named, format.param("json_schema"));
  fields.accept({"name", "description", "strict"});
  const std::string param = fields.param("schema");
  const OrderedJson* schema = fields.find("schema");
  if (schema == nullptr) return set(into, {Kind::json_object, {}, "", format.param("json_schema")});
  set(into, {Kind::json_schema, schema_of(*schema, param), "", param});
}

void read_response_format(Fields& body, OutputConstraint& into) {
  const OrderedJson* value = body.find("response_format");
  if (value == nullptr) return;
  Fields format(*value, "response_format");
  const std::string type = format.require<std::string>("type");
  format.choice("type", {"text", "json_object", "json_schema", "regex_schema"});
  if (type == "json_object") set(into, {Kind::json_object, {}, "", "response_format"});
  if (type == "json_schema") read_named_schema(format, into);
  if (type == "regex_schema") read_text(format, "regex_schema", Kind::regex, into);
}

void read_structured_outputs(Fields& body, OutputConstraint& into) {
  const OrderedJson* value = body.find("structured_outputs");
  if (value == nullptr) return;
  Fields fields(*value, "structured_outputs");
  read_json(fields, "json", into);
  read_text(fields, "regex", Kind::regex, into);
  read_text(fields, "grammar", Kind::grammar, into);
  read_choice(fields, "choice", into);
  if (fields.get_or("json_object", false)) set(into, {Kind::json_object, {}, "", fields.param("json_object")});
  fields.refuse("structural_tag", "tags inside free text cannot be constrained", "use json, regex or grammar");
  fields.accept({"disable_fallback"});
  for (const char* key : {"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"}) {
    fields.refuse(key, "white space and additional properties follow the schema alone");
  }
}

std::pair<text::GrammarKind, std::string> grammar_of(const OutputConstraint& constraint) {
  switch (constraint.kind) {
    case Kind::json_object: return {text::GrammarKind::json_object, ""};
    case Kind::json_schema: return {text::GrammarKind::json_schema, constraint.schema.dump()};
    case Kind::choice: return {text::GrammarKind::choice, constraint.schema.dump()};
    case Kind::regex: return {text::GrammarKind::regex, constraint.pattern};
    default: return {text::GrammarKind::lark, constraint.pattern};
  }
}

}  // namespace

OutputConstraint read_constraint(Fields& fields) {
  OutputConstraint constraint;
  read_response_format(fields, constraint);
  read_structured_outputs(fields, constraint);
  read_json(fields, "guided_json", constraint);
  read_text(fields, "guided_regex", Kind::regex, constraint);
  read_text(fields, "guided_grammar", Kind::grammar, constraint);
  read_choice(fields, "guided_choice", constraint);
  fields.accept({"guided_decoding_backend"});
  fields.refuse("guided_whitespace_pattern", "white space follows the grammar's own rule");
  return constraint;
}

std::shared_ptr<TokenMask> constraint_mask(LoadedModel& model, const OutputConstraint& constraint) {
  if (!constraint) return nullptr;
  const auto [kind, source] = grammar_of(constraint);
  try {
    return model.guided().mask(kind, source);
  } catch (const Error& error) {
    throw ApiError(ErrorCode::invalid_argument, constraint.param, constraint.param + ": " + error.message(),
                   error.hint());
  }
}

}  // namespace bittern::server
