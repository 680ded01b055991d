// What is refused by a request's header alone, before its body is read: no key, a foreign page, no route, a coding that is not read, a
// server that is going down.
#pragma once

#include <optional>
#include <string_view>

#include "server/http/connection.h"

namespace bittern::server {

/// The refusal of `request`, whose path found `match`; nothing when its body is to be read. A browser's preflight and
/// OPTIONS are answered here too.
std::optional<HttpReply> refuse(const HttpShared& shared, const HttpRequest& request, const RouteMatch& match);
/// 413, for a body beyond ServeOptions::max_body_bytes.
HttpReply too_large(const ServeOptions& options, std::string_view request_id);

}  // namespace bittern::server
