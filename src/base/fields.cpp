// The error texts of reading a struct by its fields.
#include "base/fields.h"

namespace bittern::detail {

void throw_unknown_key(std::string_view what, std::string_view key, std::span<const std::string> known) {
  std::string hint = did_you_mean(key, known);
  if (hint.empty()) hint = fmt::format("known keys: {}", join(known, ", "));
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: unknown key '{}'", what, utf8_sanitize(key)), hint);
}

void require_object(const Json& value, std::string_view what) {
  if (!value.is_object()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} must be an object, but it is {}", what, describe_json(value)));
  }
}

}  // namespace bittern::detail
