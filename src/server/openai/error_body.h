// The OpenAI API's error object: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <bittern/error.h>

#include "base/json.h"

namespace bittern::server {

/// Of any Error; an ApiError also says its field and code.
OrderedJson openai_error(const Error& error);

}  // namespace bittern::server
