// Errors as replies: one table from what went wrong to the status and the body that the API in question promises.
#pragma once

#include <bittern/error.h>

#include <exception>
#include <string>
#include <string_view>

#include "base/json.h"
#include "server/http/message.h"

namespace bittern::server {

/// The body alone, as it also appears inside a stream: {"error": {"message", "type", "param", "code"}}, or Anthropic's
/// {"type": "error", "error": {"type", "message"}, "request_id"}. `param` and `code` are null when empty.
OrderedJson error_body(ErrorShape shape, int status, std::string_view message, std::string_view param = {},
                       std::string_view code = {}, std::string_view request_id = {});
/// The body of an Error: of an ApiError with its field and code.
OrderedJson error_body(ErrorShape shape, const Error& error, std::string_view request_id = {});

/// A complete reply. Statuses 429 and 503 tell the client to come back after a second.
HttpReply error_reply(ErrorShape shape, int status, std::string_view message, std::string_view param = {},
                      std::string_view code = {}, std::string_view request_id = {});
/// For whatever a handler threw; what is not an Error is a bug of ours, logged, and told without its text.
HttpReply error_reply(ErrorShape shape, const std::exception& error, std::string_view request_id = {});

}  // namespace bittern::server
