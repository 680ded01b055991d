// The strict header parser: the general one with tighter limits.
#include "tensor/header_json.h"

#include <bittern/error.h>

namespace bittern {

Json parse_header_json(std::string_view text, const std::string& where) {
  // The general parser would skip a byte order mark and take a zero byte for the end of the text.
  if (!text.starts_with('{') || text.find('\0') != text.npos) {
    throw Error(ErrorCode::invalid_checkpoint, where + ": is not a JSON object");
  }
  return parse_json(text, where,
                    {.max_depth = 8, .refuse_duplicate_keys = true, .code = ErrorCode::invalid_checkpoint});
}

}  // namespace bittern
