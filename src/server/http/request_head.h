// From the header of an HTTP message as Beast reads it to our HttpRequest: path, query, names in lower case, and an id.
#pragma once

#include <boost/beast/http/message.hpp>

#include <optional>
#include <string>

#include "server/http/message.h"

namespace bittern::server {

/// Fills everything but body and client. The reply to send when the target or the header is not to be accepted.
std::optional<HttpReply> read_head(const boost::beast::http::request_header<>& head, HttpRequest& request);
/// "req-" and 16 hexadecimal digits.
std::string make_request_id();

}  // namespace bittern::server
