// JSON of untrusted checkpoint headers: one object, without repeated keys and barely nested, or refused.
// A header decides where bytes are read, so it gets stricter limits than config.json, and its errors are those of a
// damaged checkpoint.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace bittern {

/// Parses `text`, which must be one JSON object. Error(invalid_checkpoint), beginning with `where`, for malformed JSON,
/// another kind of value, a key given twice in one object, or nesting deeper than 8.
Json parse_header_json(std::string_view text, const std::string& where);

}  // namespace bittern
